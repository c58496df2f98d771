// Links within the page. In a frame that was given the page as text, as Kubeflow's, the browser takes them for links to the page around it.

document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  if (!link || !document.URL.startsWith("about:srcdoc")) return;
  event.preventDefault();
  const part = document.getElementById(link.getAttribute("href").slice(1));
  part.scrollIntoView();
  part.focus({ preventScroll: true });  // where the keyboard goes on
});
