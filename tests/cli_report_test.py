"""`sluice merge --report`: the page, and that it changes nothing of the merge."""

import re

import cli_models
from cli_models import Case, write_model

RECIPE = """merge_method: {method}
base_model: base
models:
  - {{model: one, parameters: {{weight: 0.5, density: 0.5}}}}
  - {{model: two, parameters: {{weight: 0.3, density: 0.6}}}}
dtype: bfloat16
"""


class Report(Case):
    def setUp(self):
        super().setUp()
        for seed, name in enumerate(("base", "one", "two"), 1):
            write_model(self.dir / name, seed=seed)

    def merge(self, out, *flags, method="ties", recipe=None):
        (self.dir / "r.yml").write_text(recipe or RECIPE.format(method=method))
        return self.run_ok("merge", self.dir / "r.yml", "-o", self.dir / out, "--json", *flags).json()

    def test_the_merge_is_the_same_and_nothing_more_is_read(self):
        for method in ("ties", "task_arithmetic", "dare_ties", "slerp"):
            recipe = RECIPE.format(method=method)
            if method == "slerp":
                recipe = "merge_method: slerp\nbase_model: one\nmodels: [{model: one}, {model: two}]\nparameters: {t: 0.5}\n"
            plain = self.merge(f"{method}-plain", recipe=recipe)
            told = self.merge(f"{method}-told", "--report", self.dir / f"{method}.html", recipe=recipe)
            self.assertEqual(plain["root"], told["root"], method)
            self.assertEqual(plain["bytes_read"], told["bytes_read"], method)
            self.assertNotIn("report", plain)
            self.assertEqual(told["report"], str(self.dir / f"{method}.html"))
            self.assertIn(method, (self.dir / f"{method}.html").read_text())

    def test_the_page_is_whole_and_needs_nothing_else(self):
        self.merge("out", "--report", self.dir / "page.html")
        page = (self.dir / "page.html").read_text()
        self.assertTrue(page.startswith("<!DOCTYPE html>") and page.endswith("</html>\n"))
        self.assertIsNone(re.search(r"https?:|src=|href=|url\(|@import|<script", page.replace("http://www.w3.org/2000/svg", "")))
        for part in ("model 1", "model 2", "Relative L2", "Cosine", "What was kept", "Where the parents agree", "planned", "merge_method"):
            self.assertIn(part, page)
        self.assertRegex(page, r'title="layer 0, q: [0-9.]+"')

    def test_threads_and_memory_do_not_change_the_figures(self):
        cells = []
        for flags in (("--threads", "1"), ("--threads", "3", "--max-memory", "128MiB")):
            self.merge("out", "--force", "--report", self.dir / "page.html", *flags)
            cells.append(re.findall(r'title="[^"]*"', (self.dir / "page.html").read_text()))
        self.assertTrue(cells[0])
        self.assertEqual(cells[0], cells[1])

    def test_what_cannot_be_written_is_refused_before_the_merge(self):
        (self.dir / "r.yml").write_text(RECIPE.format(method="ties"))
        (self.dir / "file").write_text("")
        for bad in (self.dir, self.dir / "file" / "page.html"):
            self.run_fails(2 if bad == self.dir else 6, [str(bad.parent)], "merge", self.dir / "r.yml", "-o", self.dir / "out", "--report", bad)
            self.assertFalse((self.dir / "out").exists())
        self.run_fails(2, ["--report", "--check"], "merge", self.dir / "r.yml", "--check", "--report", self.dir / "page.html")

    def test_a_plan_writes_no_page(self):
        self.merge("out", "--dry-run", "--report", self.dir / "page.html")
        self.assertFalse((self.dir / "page.html").exists())

    def test_without_a_base(self):
        self.merge("out", "--report", self.dir / "page.html",
                   recipe="merge_method: linear\nmodels:\n  - {model: one, parameters: {weight: 1}}\n  - {model: two, parameters: {weight: 1}}\n")
        self.assertIn("Compared with one, the first of the models", (self.dir / "page.html").read_text())


if __name__ == "__main__":
    cli_models.main()
