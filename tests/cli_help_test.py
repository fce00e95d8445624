"""Help, usage, unknown commands and options: what a person meets first."""

import re

import cli_models
from cli_models import Case, sluice

COMMANDS = ["convert", "digest", "extract-lora", "fingerprint", "inspect", "lineage", "merge", "sign", "tokenize", "verify"]
COMMON = ["--json", "--quiet", "--threads", "--max-memory", "--dry-run", "--help", "--version"]
PLANNED = ["generate", "quantize", "sweep", "chat"]


class Help(Case):
    def test_no_input_is_the_usage_on_stderr_and_2(self):
        result = sluice()
        self.assertEqual(result.status, 2)
        self.assertEqual(result.out, "")
        for command in COMMANDS:
            self.assertIn(command, result.err)
        self.assertIn("usage: sluice COMMAND", result.err)

    def test_help_is_on_stdout_and_0(self):
        for arguments in (["--help"], ["-h"], ["help"]):
            result = self.run_ok(*arguments)
            for command in COMMANDS:
                self.assertIn(command, result.out)
            self.assertIn("Exit status", result.out)

    def test_every_command_has_help_with_the_common_options_and_examples(self):
        for command in COMMANDS:
            result = self.run_ok(command, "--help")
            self.assertEqual(result.err, "")
            self.assertTrue(result.out.startswith(f"usage: sluice {command} "), result)
            for option in COMMON:
                self.assertIn(option, result.out, f"{command} --help does not tell of {option}")
            self.assertIn("Examples:", result.out)
            self.assertEqual(self.run_ok("help", command).out, result.out)
            for line in result.out.splitlines():
                self.assertLessEqual(len(line), 120, line)

    def test_the_man_page_and_the_completions_know_each_command_and_option(self):
        packaging = cli_models.pathlib.Path(__file__).resolve().parent.parent / "packaging"
        man = (packaging / "man" / "sluice.1").read_text().replace("\\-", "-")
        completions = (packaging / "completions" / "sluice.bash").read_text()
        for command in COMMANDS:
            self.assertIn(f".B {command}\n", man)
            offered = completions.split(f"      {command}) own=")[1].split("\n")[0] + " ".join(COMMON)
            told = self.run_ok(command, "--help").out.split("mergekit's, accepted")[0].split("Examples:")[0]
            for option in set(re.findall(r"^  (?:-\w,)?(--[a-z-]+)", told, re.MULTILINE)):
                self.assertIn(option, offered, f"the completions of {command} lack {option}")
        for option in COMMON:
            self.assertIn(option, man)

    def test_version(self):
        for arguments in (["--version"], *[[command, "--version"] for command in COMMANDS]):
            self.assertRegex(self.run_ok(*arguments).out, r"^sluice \d+\.\d+\.\d+\n$")

    def test_a_command_without_its_argument_is_2_with_its_usage(self):
        for command in COMMANDS:
            result = sluice(command)
            self.assertEqual(result.status, 2, result)
            self.assertIn(f"usage: sluice {command}", result.err)
            self.assertEqual(result.out, "")

    def test_unknown_commands_name_the_nearest(self):
        self.run_fails(2, ["verfiy", "verify"], "verfiy", "a", "b")
        self.run_fails(2, ["there is no command 'xyzzyx'"], "xyzzyx")

    def test_commands_to_come_are_refused_by_name(self):
        for command in PLANNED:
            self.run_fails(2, [command, "not supported yet"], command, "model/")

    def test_unknown_options_name_the_nearest(self):
        self.run_fails(2, ["--out-shard-sise", "--out-shard-size"], "merge", "r.yml", "--out-shard-sise", "5GB", "-o", "x")
        self.run_fails(2, ["--threds", "--threads"], "digest", "x", "--threds", "2")
        self.run_fails(2, ["--zzzzzzzz"], "inspect", "x", "--zzzzzzzz")
        self.run_fails(2, ["one argument too many"], "digest", "a", "b")

    def test_bad_values_of_common_options(self):
        self.run_fails(2, ["threads"], "inspect", "x", "--threads", "0")
        self.run_fails(2, ["threads"], "inspect", "x", "-t", "many")
        self.run_fails(2, ["--max-memory", "4 parsecs"], "inspect", "x", "--max-memory", "4 parsecs")

    def test_options_before_the_command_are_explained(self):
        self.run_fails(2, ["--threads", "before the command"], "--threads", "2", "digest", "x")

    def test_options_to_come_are_refused_by_name(self):
        for option in ("--kv", "--compute"):
            self.run_fails(2, [option, "not supported yet"], "perplexity", "a", "--text", "x", option, "x")
        self.run_fails(2, ["--level thorough"], "verify", "a", "b", "--level", "thorough")


if __name__ == "__main__":
    cli_models.main()
