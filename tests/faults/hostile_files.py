"""Files beside images that a run reads: weights, features, classifiers, tables and configurations, whole and made by an attacker."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import struct
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import skops.io
import torch
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

EXIT_CODE = 99
"""With which the process ends where code of a fuzzed file runs."""


@dataclass(frozen=True)
class Call:
    """What a file would run: a function of `posix`, and its argument."""

    function: str
    argument: object

    def __reduce__(self) -> tuple[object, ...]:
        return getattr(os, self.function), (self.argument,)


EXIT = Call("_exit", EXIT_CODE)


class CallByItems(dict):  # type: ignore[type-arg]
    """The same, by another of the ways that a pickle has to hold something."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
        return dict, (), None, None, iter([("teacher", self.call)])


def raw_pickles(call: Call) -> list[bytes]:
    """Pickles of every protocol, by `__reduce__`, inside of containers, and by every opcode and module that can name a function."""
    holders = (call, {"teacher": {"w": call}}, [call], CallByItems(call))
    made = [pickle.dumps(holder, protocol) for protocol in range(6) for holder in holders]
    argument, name = pickle.dumps(call.argument, 0)[:-1], call.function.encode()  # without the stop
    code = f"__import__('os').{call.function}({call.argument!r})"
    made += [
        b"cposix\n" + name + b"\n(" + argument + b"tR.",  # GLOBAL, REDUCE
        b"(" + argument + b"iposix\n" + name + b"\n.",  # INST
        b"(cposix\n" + name + b"\n" + argument + b"o.",  # OBJ
        b"\x80\x04\x8c\x05posix\x8c" + bytes([len(name)]) + name + b"\x93(" + argument + b"tR.",  # STACK_GLOBAL
        b"\x80\x02cposix\n" + name + b"\n" + argument + b"\x85\x81.",  # NEWOBJ
        b"ccopyreg\n__newobj_ex__\n(cposix\n" + name + b"\n(" + argument + b"t}tR.",
        b"ccopyreg\n_reconstructor\n(cposix\n" + name + b"\nc__builtin__\nobject\nNtR.",
        b"c__builtin__\neval\n(V" + code.encode() + b"\ntR.",
        b"c__builtin__\nexec\n(V" + code.encode() + b"\ntR.",
        b"cfunctools\npartial\n(cposix\n" + name + b"\n" + argument + b"tR(tR.",
        b"ctorch.hub\nload_state_dict_from_url\n(Vhttp://127.0.0.1:1/x\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cposix\n" + name + b"\n(I0\ntc__builtin__\nbytes\n(tRtR.",
        b"cargparse\nNamespace\n(tR(dVsetting\ncposix\n" + name + b"\n(" + argument + b"tRsb.",
    ]  # fmt: skip
    return made


def damaged_pickles() -> list[bytes]:
    """Pickles of no code that readers stumble over."""
    return [b"cpathlib\nPath\n(V/etc/passwd\ntR.", b"\x82\x01.", b"P1\n.", b"(I1\nI2\nl.", b"q" * 40, b"(" * 100000 + b"."]


def as_files(code: bytes) -> dict[str, bytes]:
    """A pickle alone, in the zip that torch writes, in a zip in a zip, and in torch's older layout."""
    magic = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    whole = {"archive/data.pkl": code, "archive/version": b"3\n", "archive/byteorder": b"little"}
    return {
        "raw": code,
        "zip": _zip(whole),
        "nested": _zip({"archive/data.pkl": _zip(whole), "archive/version": b"3\n", "data.pkl": code}),
        "legacy": b"".join(pickle.dumps(part, 2) for part in magic) + code,
    }


def behind_tensors(call: Call, legacy: bool) -> bytes:
    """A checkpoint that torch.save has written, with code in it."""
    buffer = io.BytesIO()
    torch.save({"teacher": {"w": torch.zeros(4)}, "more": call}, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def hostile_pickle(random: Random) -> bytes:
    """One of these."""
    if random.random() < 0.2:
        return behind_tensors(EXIT, random.random() < 0.5)
    return random.choice(list(as_files(random.choice(_exits() + damaged_pickles())).values()))


@cache
def _exits() -> list[bytes]:
    return raw_pickles(EXIT)


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@cache
def zip_bomb() -> bytes:
    """A checkpoint whose pickle unpacks to 300 MB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"N0" * (150 * 2**20) + b"N.")
        archive.writestr("archive/version", b"3\n")
    return buffer.getvalue()


@cache
def checkpoint(legacy: bool = False) -> bytes:
    """A small checkpoint with the settings that DINO saves."""
    state = {"module.backbone.cls_token": torch.zeros(1, 1, 8), "module.backbone.norm.weight": torch.ones(8)}
    settings = argparse.Namespace(arch="vit_small", lr=np.float32(0.1))
    buffer = io.BytesIO()
    torch.save({"teacher": state, "args": settings, "epoch": 3}, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


@cache
def features_file() -> bytes:
    """Features in the published layout."""
    buffer = io.BytesIO()
    torch.save([torch.rand(6, 4), ["a", "b"] * 3, np.arange(6)], buffer)
    return buffer.getvalue()


@cache
def safetensors_file() -> bytes:
    """A small state dictionary."""
    return safetensors.torch.save({"cls_token": torch.zeros(1, 1, 8), "norm.weight": torch.ones(8)})


def lying_safetensors(random: Random) -> bytes:
    """A header that promises more, overlaps, or is no header."""
    shape = random.choice(("[8]", "[1000000000000]", "[-1]", "[4294967296,4294967296]", "[8.5]", "[" * 50000))
    places = random.choice(("[0,32]", "[0,4294967296]", "[32,0]", "[0]", "[-1,5]"))
    header = f'{{"cls_token":{{"dtype":"{random.choice(("F32", "F64", "X9", "BOOL"))}","shape":{shape},"data_offsets":{places}}}}}'.encode()
    return struct.pack("<Q", random.choice((len(header), 0, 2**63, 2**64 - 1, 10**9))) + header + bytes(32)


@cache
def classifier_file() -> bytes:
    """A fitted classifier as `classify` keeps it."""
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(1)).fit(np.eye(4, dtype=np.float32), ["a", "b", "a", "b"])
    return bytes(skops.io.dumps(model))


@cache
def features_h5ad() -> bytes:
    """AnnData with features of 8 cells."""
    import anndata

    obs = pd.DataFrame({"file": [f"{row}.png" for row in range(8)], "plate": pd.Categorical(["a", "b"] * 4)}, index=list("abcdefgh"))
    var = pd.DataFrame(index=[f"dino_{column}" for column in range(4)])
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "f.h5ad")
        anndata.AnnData(np.ones((8, 4), np.float32), obs, var, uns={"dino4cells": {"rows": 8}}).write_h5ad(path)
        return path.read_bytes()


@cache
def features_table() -> bytes:
    """Features of an artifact, in Parquet."""
    buffer = io.BytesIO()
    columns = {"Metadata_file": [f"{row}.png" for row in range(8)], "Metadata_ID": ["a"] * 8}
    columns.update({f"dino_{place}": np.linspace(0, 1, 8, dtype=np.float32) for place in range(4)})
    columns.update({"Metadata_dino_model": ["m"] * 8, "Metadata_dino_error": [None] * 8})
    pq.write_table(pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False), buffer)
    return buffer.getvalue()


# Tables and configurations


def table(random: Random) -> tuple[bytes, bool]:
    """A table of cells, and whether it is one that must be read."""
    names = [f"images/{row}.png" for row in range(5)]
    labels = random.choice(
        (
            ["a", "b", "c", "d", "e"],
            ["=1+1", "+cmd|' /C calc'!A0", "@SUM(A1)", "-2+3", "\tx"],
            ['say "x"', "a,b", "line\nbreak", "é", "日本"],
        )
    )
    frame = pd.DataFrame({"file": names, "ID": ["x"] * 5, "protein_location": labels})
    good = frame.to_csv(index=False)
    match random.choice(
        ("plain", "bom", "crlf", "quotes", "utf-16", "latin-1", "nul", "outside", "wide", "long", "ragged", "binary", "names", "twice")
    ):
        case "plain":
            return good.encode(), True
        case "bom":
            return b"\xef\xbb\xbf" + good.encode(), True
        case "crlf":
            return frame.to_csv(index=False, lineterminator="\r\n").encode(), True
        case "quotes":
            return frame.to_csv(index=False, quoting=1).encode(), True
        case "utf-16":
            return good.encode(random.choice(("utf-16", "utf-16-le", "utf-32", "utf-7"))), False
        case "latin-1":
            return "file,ID\nimages/zürich.png,é\n".encode("latin-1"), False
        case "nul":
            return good.replace("images/2", f"images/{random.choice(chr(0) + chr(1) + chr(27))}2").encode(), False
        case "outside":
            name = random.choice(
                (
                    "/etc/passwd",
                    "../../etc/passwd",
                    "images/../../x",
                    "http://127.0.0.1:1/x.png",
                    "s3://other/x.png",
                    "file:///etc/passwd",
                    "zip://x::/etc/passwd",
                    "images/..",
                    "//etc/passwd",
                )
            )
            return good.replace("images/3.png", name).encode(), False
        case "wide":
            return b",".join([b"file"] + [b"c%d" % place for place in range(random.choice((10, 5000, 100000)))]) + b"\nx.png\n", False
        case "long":
            return b'file,ID\n"' + b"a" * random.choice((10, 131073, 10**7)) + random.choice((b'",1\n', b"")), False
        case "ragged":
            return good.encode() + b"images/9.png,a,b,c,d,e\n", False
        case "binary":
            return random.randbytes(random.randrange(1, 500)), False
        case "names":
            return b"file,file,ID,,\n" + b"a.png,b.png,1,2,3\n", False
        case _:
            return (good + "images/1.png,x,a\n").encode(), True


def configuration(random: Random) -> str:
    """A configuration with bombs, tags, depth, rings and odd scalars."""
    levels = random.choice((3, 9, 30))
    laughs = "\n".join([f"a0: &a0 [{', '.join(['x'] * 9)}]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)])
    merges = "\n".join(["b0: &b0 {k0: 1}"] + [f"b{n}: &b{n} {{<<: [{', '.join([f'*b{n - 1}'] * 9)}], k{n}: 1}}" for n in range(1, levels)])
    return random.choice(
        (
            f"model: {{epochs: 3}}\n{laughs}\n",
            f"{laughs}\nmodel: *a{levels - 1}\n",
            f"{laughs}\nmodel: {{channels: *a{levels - 1}}}\n",
            f"{merges}\nmodel: *b{levels - 1}\n",
            "model: " + "[" * 10 ** random.randrange(1, 6),
            "model: " + "{a: " * 10 ** random.randrange(1, 5),
            "model:\n" + "".join(f"{' ' * depth}a:\n" for depth in range(1, 2000)),
            "model: &m {epochs: *m}\n",
            "model: !!python/object/apply:os._exit [99]\n",
            "model: {epochs: !!python/object/new:os._exit [99]}\n",
            "!!python/module:os\n",
            "model: {epochs: !!binary '////'}\n",
            "model: {epochs: !!int 'x'}\nmore: !!timestamp 2024-13-45\n",
            f"model: {{epochs: {'9' * 10 ** random.randrange(1, 6)}}}\n",
            f"model: {{epochs: 0x{'f' * 10 ** random.randrange(1, 6)}}}\n",
            f"model: {{epochs: {'1:' * 1000}1}}\n",
            f"model: {{lr: {'1' * 400}.0e999}}\n",
            f"model: {{lr: {random.choice(('.nan', '.inf', '-.inf', '1e400'))}}}\n",
            f"model: {{root: '{'a' * 10**6}'}}\n",
            'model: {root: "\\x1b[31m\\u202e\\0"}\n',
            f"model: {{{', '.join(f'k{n}: {n}' for n in range(1000))}}}\n",
            "? {a: b}\n: c\nmodel: {epochs: 1}\n",
            "model: {epochs: 3}\n--- \nmodel: {epochs: 4}\n",
            "%YAML 9.9\n---\nmodel: {}\n",
            "model:\n\tepochs: 3\n",
            "<<: 5\nmodel: {<<: {<<: {<<: 3}}}\n",
            "global_transfo1: {RandomResizedCrop: [True, {size: 10000000000000}]}\n",
        )
    )
