"use strict";
// What the scripts of a page share. Text from tables reaches the page as text alone (textContent), never as markup.

const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const visible = (text) => String(text).replace(UNSEEN, "\ufffd");
const byId = (id) => document.getElementById(id);

function dataBlock(id) {
  const block = byId(id);
  return block ? JSON.parse(block.textContent) : null;
}

// A new element with text or children; attributes are set as given.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.map((child) => (typeof child === "string" ? visible(child) : child)));
  return made;
}

const ARRAYS = {
  Float32: Float32Array, Float64: Float64Array, Uint8: Uint8Array, Uint16: Uint16Array, Uint32: Uint32Array, Uint64: BigUint64Array,
};

function unpacked(given) {
  const text = atob(given.data);
  const bytes = new Uint8Array(text.length);
  for (let place = 0; place < text.length; place++) bytes[place] = text.charCodeAt(place);
  return new ARRAYS[given.type](bytes.buffer);
}

// Paper is white, whatever the screen is.
const darkScreen = window.matchMedia("(prefers-color-scheme: dark)");
let printing = false;
window.addEventListener("beforeprint", () => { printing = true; });
window.addEventListener("afterprint", () => { printing = false; });
const onDark = () => darkScreen.matches && !printing;

// A number as it is read: whole ones in full, others in seven digits.
const numeral = (number) => String(Number.isSafeInteger(number) ? number : Number(number.toPrecision(7)));
const counted = (number) => number.toLocaleString("en-US");
const cells = (number) => `${counted(number)} ${number === 1 ? "cell" : "cells"}`;

function loaded(source) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("a picture of the page is damaged"));
    image.src = source;
  });
}
