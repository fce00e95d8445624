"""Holds the tree to its layout: who may include whom, names, guards, lengths, and the shape of registry files.

Rooms are the folders of src/. A room includes itself and lower rooms only; see ROOMS. Tests (x_test.cc, testing/, tests/), tools/
and bench/ may include every room. Each rule has a self-check below: a small tree that breaks it and must be caught.
"""

import os
import pathlib
import re
import sys
import tempfile
import unittest

# Low to high. Rooms on one line do not know each other: what one needs of another arrives as a node, a sink or a function.
ROOMS = [
    ["base"],
    ["kernels"],
    ["quant"],
    ["io"],
    ["formats"],
    ["graph"],
    ["arithmetic"],
    ["checkpoint"],
    ["stream"],
    ["tokenizer"],
    ["merge", "verify", "infer"],
    ["report"],
    ["cli"],
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}

# Folder, its namespace, what its functions return, and the room that includes the generated table. As in CMakeLists.txt.
REGISTRIES = [
    ("quant/encodings", "sluice::quant::encodings", "std::span<const EncodingInfo>", "encodings_table.inc"),
    ("checkpoint/architectures", "sluice::checkpoint::architectures", "const Architecture&", "architectures_table.inc"),
    ("merge/methods", "sluice::merge::methods", "const Method&", "methods_table.inc"),
    ("cli/commands", "sluice::cli::commands", "const Command&", "commands_table.inc"),
]
TABLE_ROOM = {table: folder.split("/")[0] for folder, _, _, table in REGISTRIES}

MAX_LINES = 800
FOREIGN_QUOTED = ("hwy/",)  # Highway's own documentation quotes its headers.
INCLUDE = re.compile(r'^\s*#\s*(?:include|define\s+HWY_TARGET_INCLUDE)\s+"([^"]+)"')
SOURCE_SUFFIXES = (".h", ".cc", ".inc")


def source_files(root, folder):
    base = root / folder
    if not base.is_dir():
        return []
    return sorted(p for p in base.rglob("*") if p.is_file() and p.suffix in SOURCE_SUFFIXES)


def is_test(path):
    return path.stem.endswith("_test") or "testing" in path.parts


def include_problems(root):
    """Includes that go up or sideways, that leave the tree, or that name a file that does not exist."""
    problems = []
    src = root / "src"
    for path in source_files(root, "src"):
        relative = path.relative_to(src)
        room = relative.parts[0]
        if len(relative.parts) < 2 or room not in LEVEL:
            problems.append(f"src/{relative}: not in one of the rooms {', '.join(LEVEL)}")
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            target = match.group(1)
            where = f"src/{relative}:{number}"
            first = target.split("/")[0]
            if first == "generated":
                owner = TABLE_ROOM.get(target.split("/")[-1])
                if owner and owner != room:
                    problems.append(f"{where}: {target} belongs to {owner}")
            elif first in LEVEL and "/" in target:
                if not (src / target).is_file():
                    problems.append(f"{where}: {target} does not exist")
                if is_test(relative):
                    continue
                if is_test(pathlib.PurePath(target)) and not relative.stem.endswith("_fuzz"):
                    problems.append(f"{where}: {target} is for tests only")
                if first != room and LEVEL[first] > LEVEL[room]:
                    problems.append(f"{where}: {room} may not include {first}, which is above it")
                elif first != room and LEVEL[first] == LEVEL[room]:
                    problems.append(f"{where}: {room} and {first} may not know each other")
            elif is_test(relative) and (root / target).is_file():
                pass  # tests/support
            elif not target.startswith(FOREIGN_QUOTED):
                problems.append(f'{where}: "{target}": include our files as "room/file.h", others\' in <>')
    return problems


def name_problems(root):
    """Base names are unique in src; x.h, x.cc, x_test.cc and x_fuzz.cc lie side by side; all are snake_case."""
    problems = []
    folder_of = {}
    src = root / "src"
    for path in source_files(root, "src"):
        relative = path.relative_to(src)
        if not re.fullmatch(r"[a-z][a-z0-9_]*(-inl)?", path.stem):
            problems.append(f"src/{relative}: file names are snake_case")
        base = re.sub(r"(_test|_fuzz|-inl)$", "", path.stem)
        first = folder_of.setdefault(base, relative)
        if first.parent != relative.parent:
            problems.append(f"src/{relative}: the base name '{base}' is taken by src/{first}")
    return problems


def file_problems(root):
    """Every header is guarded; no file is longer than MAX_LINES."""
    problems = []
    for folder in ("src", "tools", "bench", "tests", "fuzz"):
        for path in source_files(root, folder):
            relative = path.relative_to(root)
            lines = path.read_text(encoding="utf-8").splitlines()
            if len(lines) > MAX_LINES:
                problems.append(f"{relative}: {len(lines)} lines; a file on its way to {MAX_LINES} is two files")
            if path.suffix != ".h" or "#pragma once" in lines:
                continue
            # SIMD code is included once for each target, under a guard that Highway toggles.
            if path.stem.endswith("-inl") and any("HWY_TARGET_TOGGLE" in line for line in lines):
                continue
            problems.append(f"{relative}: no #pragma once")
    return problems


def registry_problems(root):
    """NAME.cc in a registry folder defines NAME() of the registry's type in its namespace; the .cc files lie flat."""
    problems = []
    for folder, namespace, return_type, _ in REGISTRIES:
        base = root / "src" / folder
        for path in source_files(root, f"src/{folder}"):
            relative = path.relative_to(root)
            name = path.stem
            if path.suffix != ".cc" or name.startswith("internal_") or name.endswith(("_test", "_fuzz")):
                continue
            if path.parent != base:
                problems.append(f"{relative}: src/{folder} has no folders in it")
                continue
            text = path.read_text(encoding="utf-8")
            if f"namespace {namespace} {{" not in text:
                problems.append(f"{relative}: no `namespace {namespace} {{`")
            pattern = r"\s*".join(re.escape(token) for token in re.findall(r"\w+|\S", return_type))
            if not re.search(pattern.replace(r"const\s*", r"const\s+") + rf"\s*\b{name}\(\)\s*\{{", text):
                problems.append(f"{relative}: does not define `{return_type} {name}()`")
    return problems


def all_problems(root):
    return include_problems(root) + name_problems(root) + file_problems(root) + registry_problems(root)


METHOD = "namespace sluice::merge::methods {\nconst Method& %s() { return m; }\n}\n"
GOOD = {
    "src/base/result.h": "#pragma once\n",
    "src/io/reader.h": '#pragma once\n#include "base/result.h"\n',
    "src/io/reader.cc": '#include "io/reader.h"\n#include "generated/version.h"\n',
    "src/kernels/add-inl.h": "#if defined(HWY_TARGET_TOGGLE)\n#endif\n",
    "src/kernels/add.cc": '#define HWY_TARGET_INCLUDE "kernels/add.cc"\n#include "hwy/foreach_target.h"\n',
    "src/io/reader_test.cc": '#include "cli/command.h"\n#include "io/testing/fake_disk.h"\n#include "tests/support/dir.h"\n',
    "src/io/testing/fake_disk.h": "#pragma once\n",
    "src/io/reader_fuzz.cc": '#include "io/testing/fake_disk.h"\n',
    "src/cli/command.h": '#pragma once\n#include "merge/method.h"\n#include "verify/compare.h"\n',
    "src/merge/method.h": "#pragma once\n",
    "src/merge/method.cc": '#include "generated/methods_table.inc"\n',
    "src/merge/methods/linear.cc": METHOD % "linear",
    "src/merge/methods/internal_shared.cc": "int x;\n",
    "src/quant/encodings/plain.cc": "namespace sluice::quant::encodings {\n"
    "std::span<const EncodingInfo> plain() { return kAll; }\n}\n",
    "src/verify/compare.h": "#pragma once\n",
    "tests/support/dir.h": "#pragma once\n",
}
# Each breaks one rule: the file that does so, and a word of the complaint.
BAD = [
    ({"src/io/up.h": '#pragma once\n#include "merge/method.h"\n'}, "merge, which is above"),
    ({"src/verify/side.h": '#pragma once\n  #  include "merge/method.h"\n'}, "may not know each other"),
    ({"src/merge/side.cc": '#include "verify/compare.h"\n'}, "may not know each other"),
    ({"src/io/gone.cc": '#include "base/gone.h"\n'}, "does not exist"),
    ({"src/io/near.cc": '#include "reader.h"\n'}, "include our files as"),
    ({"src/io/dots.cc": '#include "../base/result.h"\n'}, "include our files as"),
    ({"src/io/fake.cc": '#include "io/testing/fake_disk.h"\n'}, "for tests only"),
    ({"src/io/support.cc": '#include "tests/support/dir.h"\n'}, "include our files as"),
    ({"src/io/table.cc": '#include "generated/methods_table.inc"\n'}, "belongs to merge"),
    ({"src/misc/x.h": "#pragma once\n"}, "not in one of the rooms"),
    ({"src/loose.h": "#pragma once\n"}, "not in one of the rooms"),
    ({"src/merge/reader.cc": ""}, "'reader' is taken"),
    ({"src/merge/reader_test.cc": ""}, "'reader' is taken"),
    ({"src/io/CamelCase.cc": ""}, "snake_case"),
    ({"src/io/bare.h": "int x;\n"}, "no #pragma once"),
    ({"src/io/bare-inl.h": "int x;\n"}, "no #pragma once"),
    ({"tools/bare_tool.h": "int x;\n"}, "no #pragma once"),
    ({"bench/long.cc": "\n" * (MAX_LINES + 1)}, "lines"),
    ({"src/merge/methods/ties.cc": METHOD % "tiez"}, "does not define"),
    ({"src/merge/methods/slerp.cc": "const Method& slerp() {}\n"}, "no `namespace"),
    ({"src/merge/methods/deep/nuslerp.cc": METHOD % "nuslerp"}, "no folders"),
    ({"src/quant/encodings/q4.cc": "namespace sluice::quant::encodings {\nconst EncodingInfo& q4() {\n}\n}\n"}, "define"),
]


def write_tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


class IncludeRules(unittest.TestCase):
    maxDiff = None

    def test_the_tree_keeps_its_rules(self):
        here = pathlib.Path(__file__).resolve().parent.parent
        root = pathlib.Path(os.environ.get("SLUICE_SOURCE", here))
        self.assertTrue(source_files(root, "src"), "no sources found: this test would prove nothing")
        problems = all_problems(root)
        self.assertFalse(problems, "\n" + "\n".join(problems))

    def test_registries_are_those_of_the_build(self):
        here = pathlib.Path(__file__).resolve().parent.parent
        root = pathlib.Path(os.environ.get("SLUICE_SOURCE", here))
        build = (root / "CMakeLists.txt").read_text(encoding="utf-8")
        found = re.findall(
            r'sluice_registry\(OUTPUT (\S+) GLOB src/(\S+)/\*\.cc\s+NAMESPACE (\S+) RETURN_TYPE "([^"]+)"\)', build)
        self.assertEqual(sorted((folder, space, kind, table) for table, folder, space, kind in found), sorted(REGISTRIES))
        self.assertEqual(build.count("sluice_registry("), len(found))


class SelfCheck(unittest.TestCase):
    def test_a_good_tree_passes(self):
        with tempfile.TemporaryDirectory() as folder:
            write_tree(pathlib.Path(folder), GOOD)
            self.assertEqual(all_problems(pathlib.Path(folder)), [])

    def test_each_violation_is_caught(self):
        for files, complaint in BAD:
            with self.subTest(file=next(iter(files))), tempfile.TemporaryDirectory() as folder:
                write_tree(pathlib.Path(folder), GOOD)
                write_tree(pathlib.Path(folder), files)
                problems = all_problems(pathlib.Path(folder))
                self.assertEqual(len(problems), 1, problems)
                self.assertIn(complaint, problems[0])
                self.assertIn(next(iter(files)), problems[0])


if __name__ == "__main__":
    sys.exit(0 if unittest.main(exit=False, verbosity=1).result.wasSuccessful() else 1)
