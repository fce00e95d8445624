#include "report/audit_report.h"

#include <fmt/format.h>

#include "base/units.h"
#include "report/table.h"

namespace sluice::report {
namespace {

using nlohmann::ordered_json;
using verify::MergeAudit;

constexpr size_t kMostRows = 20;

std::string Percent(double share) { return share >= 1 ? "100%" : fmt::format("{:.2g}%", 100 * share); }

std::string SampleProves(const MergeAudit& audit) {
  if (audit.chunks >= audit.all_chunks) return "with the recorded facts the recipe makes every byte of the folder";
  return fmt::format(
      "with the recorded facts the recipe makes {} of {} chunks of 1 MiB; if {} of them or more were "
      "not what it makes, that would have been found with a probability of 99%",
      audit.chunks, audit.all_chunks, Percent(MergeAudit::NoticedShare(audit.chunks, audit.all_chunks)));
}

std::string FactsProve(const MergeAudit& audit) {
  if (audit.all_tensors == 0) return "nothing: no tensor of this method looks at facts of whole parents";
  if (audit.tensors >= audit.all_tensors) return "all recorded facts are those of the parents";
  return fmt::format(
      "the facts of {} of {} tensors are those of the parents; if {} of them or more were not, that "
      "would have been found with a probability of 99%",
      audit.tensors, audit.all_tensors, Percent(MergeAudit::NoticedShare(audit.tensors, audit.all_tensors)));
}

std::string Proves(const MergeAudit& audit) {
  if (audit.verdict == verify::Verdict::kUndecided) {
    return "the parents that are there now do not make the folder; files of theirs are not as they were at the merge";
  }
  if (audit.verdict != verify::Verdict::kSameSample) return "the folder is not what its statement and recipe make";
  std::string text = audit.sampled ? SampleProves(audit) : "";
  if (audit.looked_at_facts) text += (text.empty() ? "" : "; ") + FactsProve(audit);
  return text;
}

std::string DoesNotProve(const MergeAudit& audit) {
  if (audit.verdict == verify::Verdict::kUndecided) {
    return "anything about the merge: that takes the parents that it was made of";
  }
  if (audit.verdict != verify::Verdict::kSameSample) return "which of them was changed";
  if (!audit.looked_at_facts) return "that the recorded facts are those of the parents: --facts 0.1 looks at some";
  if (!audit.sampled) return "that the folder was made with these facts: --sample 0.01 looks at some of it";
  return "anything about what was not drawn: `sluice verify FOLDER recipe.yml` makes all of it again";
}

}  // namespace

ordered_json AuditJson(const MergeAudit& audit) {
  ordered_json json;
  json["verdict"] = verify::VerdictName(audit.verdict);
  json["level"] = "sample";
  json["proves"] = Proves(audit);
  json["does_not_prove"] = DoesNotProve(audit);
  json["config"] = ordered_json::object();
  ordered_json summary = {{"ref", audit.ref}, {"statement", audit.statement}, {"nonce", audit.nonce}};
  summary["contradictions"] = audit.contradictions;
  summary["not_made"] = audit.not_made;
  summary["changed_parents"] = ordered_json::array();
  for (const verify::ChangedParent& changed : audit.changed_parents) {
    summary["changed_parents"].push_back(
        {{"parent", changed.parent.empty() ? ordered_json(nullptr) : ordered_json(changed.parent)},
         {"file", changed.file},
         {"how", changed.how}});
  }
  if (audit.sampled) summary["sample"] = {{"chunks", audit.chunks}, {"all_chunks", audit.all_chunks}};
  if (audit.looked_at_facts) summary["facts"] = {{"tensors", audit.tensors}, {"all_tensors", audit.all_tensors}};
  json["summary"] = std::move(summary);
  json["tensors"] = ordered_json::array();
  const auto add = [&](const std::vector<std::string>& names, const char* what) {
    for (const std::string& name : names) json["tensors"].push_back({{"name", name}, {"class", what}});
  };
  add(audit.not_recomputed, "not_recomputed");
  add(audit.not_written, "not_written");
  add(audit.other_facts, "other_facts");
  json["memory"] = {{"budget", audit.budget_bytes}, {"peak", audit.peak_bytes}};
  json["seconds"] = audit.seconds;
  json["bytes_read"] = audit.bytes_read;
  return json;
}

std::string AuditText(const MergeAudit& audit) {
  std::string text = fmt::format("{}  (the folder, its statement and its parents, nonce {})\n\n",
                                 verify::VerdictName(audit.verdict), audit.nonce);
  for (const std::string& sentence : audit.contradictions) text += fmt::format("  {}\n", sentence);
  for (const std::string& sentence : audit.not_made) text += fmt::format("  {}\n", sentence);
  for (const verify::ChangedParent& changed : audit.changed_parents) {
    const std::string parent = changed.parent.empty() ? "a parent" : fmt::format("the parent '{}'", changed.parent);
    text += fmt::format("  {} is not as it was: {}: {}\n", parent, changed.file, changed.how);
  }
  Table table({"half", "looked at", "found"});
  const auto finding = [](size_t count) {
    return count == 0 ? std::string("as stated") : fmt::format("{} tensors differ", count);
  };
  if (audit.sampled) {
    const std::string chunks = fmt::format("{} of {} chunks", FormatCount(audit.chunks), FormatCount(audit.all_chunks));
    table.AddRow({"made again from the parents", chunks, finding(audit.not_recomputed.size())});
    table.AddRow({"read from the folder", chunks, finding(audit.not_written.size())});
  }
  if (audit.looked_at_facts) {
    table.AddRow({"facts of whole parents",
                  fmt::format("{} of {} tensors", FormatCount(audit.tensors), FormatCount(audit.all_tensors)),
                  finding(audit.other_facts.size())});
  }
  text += table.ToString("  ");
  text += fmt::format("\n  proves          {}\n  does not prove  {}\n", Proves(audit), DoesNotProve(audit));
  Table tensors({"tensor", ""});
  size_t rows = 0;
  const auto add = [&](const std::vector<std::string>& names, const char* what) {
    for (const std::string& name : names) {
      if (rows++ < kMostRows) tensors.AddRow({name, what});
    }
  };
  add(audit.not_recomputed, "the recipe makes other bytes of the parents");
  add(audit.not_written, "the folder has other bytes than stated");
  add(audit.other_facts, "the parents have other facts");
  if (!tensors.empty()) text += "\n" + tensors.ToString("  ");
  if (rows > kMostRows) text += fmt::format("  ... and {} more (all of them with --json)\n", rows - kMostRows);
  return text + fmt::format("\n  {}, read {}, {} of {} at most\n", FormatSeconds(audit.seconds),
                            FormatBytes(audit.bytes_read), FormatMemory(audit.peak_bytes),
                            FormatMemory(audit.budget_bytes));
}

}  // namespace sluice::report
