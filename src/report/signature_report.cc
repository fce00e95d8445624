#include "report/signature_report.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/units.h"
#include "kernels/sha256.h"
#include "report/model_report.h"
#include "report/table.h"
#include "report/verification_report.h"

namespace sluice::report {
namespace {

using nlohmann::ordered_json;
using verify::FileChange;
using verify::FileDifference;
using verify::SignatureCheck;

constexpr size_t kMostRows = 20;

uint64_t Count(const SignatureCheck& check, FileChange change) {
  return static_cast<uint64_t>(std::ranges::count(check.comparison.differences, change, &FileDifference::change));
}

std::string Files(uint64_t count) { return fmt::format("{} {}", FormatCount(count), count == 1 ? "file" : "files"); }

std::string Differences(const SignatureCheck& check) {
  std::string text;
  for (const FileChange change : {FileChange::kChanged, FileChange::kMissing, FileChange::kExtra}) {
    const uint64_t count = Count(check, change);
    if (count > 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", FormatCount(count), FileChangeName(change));
  }
  return text;
}

std::string Proves(const SignatureCheck& check) {
  if (!check.comparison.same()) {
    return fmt::format("the signature is this key's, and the files are not those that were signed: {}",
                       Differences(check));
  }
  const std::string files =
      "every byte of every file was read: these are the files that the holder of the key has signed, none is missing "
      "and none is more";
  std::string text = files;
  if (check.statement) {
    text += check.statement->verdict == verify::Verdict::kIdentical
                ? "; the root is the one that the folder's statement names"
                : "; but the folder's statement, which is one of them, names another root";
  }
  if (check.manifest) {
    text += check.manifest->same() ? "; the model is the manifest's" : "; but the model is not the manifest's";
  }
  return text;
}

std::string DoesNotProve(const SignatureCheck& check) {
  std::string text = check.comparison.same() ? "who holds the key, when it was signed, or that the model is any good"
                                             : "who changed them, or whether it matters";
  if (!check.ignored.empty()) {
    text += fmt::format("; anything about {} that the signature leaves out", Files(check.ignored.size()));
  }
  return text;
}

ordered_json HashJson(const std::optional<kernels::Hash256>& hash) {
  return hash ? ordered_json(kernels::ToHex(*hash)) : ordered_json();
}

const char* Words(FileChange change) {
  switch (change) {
    case FileChange::kChanged:
      return "its bytes are not those that were signed";
    case FileChange::kMissing:
      return "was signed, and is not there";
    default:
      return "is there, and was not signed";
  }
}

}  // namespace

ordered_json SignatureCheckJson(const SignatureCheck& check) {
  ordered_json json;
  json["verdict"] = verify::VerdictName(check.verdict);
  json["level"] = "files";
  json["proves"] = Proves(check);
  json["does_not_prove"] = DoesNotProve(check);
  json["config"] = ordered_json::object();
  ordered_json& summary = json["summary"];
  summary["ref"] = check.ref;
  summary["signature"] = check.signature;
  summary["key"] = {{"file", check.key}, {"hint", check.key_hint}, {"curve", check.curve}};
  summary["model_name"] = check.model_name;
  summary["shard_bytes"] = check.shard_bytes == 0 ? ordered_json() : ordered_json(check.shard_bytes);
  summary["files"] = check.files;
  summary["bytes"] = check.bytes;
  summary["unchanged"] = check.comparison.unchanged;
  for (const FileChange change : {FileChange::kChanged, FileChange::kMissing, FileChange::kExtra}) {
    summary[verify::FileChangeName(change)] = Count(check, change);
  }
  summary["ignored"] = check.ignored;
  json["files"] = ordered_json::array();
  for (const FileDifference& difference : check.comparison.differences) {
    json["files"].push_back({{"name", difference.name},
                             {"class", verify::FileChangeName(difference.change)},
                             {"signed_digest", HashJson(difference.signed_digest)},
                             {"digest", HashJson(difference.digest)}});
  }
  json["tensors"] = ordered_json::array();
  if (check.statement) {
    ordered_json statement = StatementCheckJson(*check.statement);
    summary["statement"] = statement["summary"];
    summary["statement"]["verdict"] = statement["verdict"];
    json["tensors"] = statement["tensors"];
  }
  if (check.manifest) summary["manifest"] = ManifestCheckJson(*check.manifest);
  json["memory"] = {{"budget", check.budget_bytes}, {"peak", check.peak_bytes}};
  json["seconds"] = check.seconds;
  json["bytes_read"] = check.bytes_read;
  return json;
}

std::string SignatureCheckText(const SignatureCheck& check) {
  std::string text = fmt::format("{}  (the files and their signature{})\n\n", verify::VerdictName(check.verdict),
                                 check.statement ? ", the folder and its own statement" : "");
  Table table({"", ""});
  table.AddRow({"signature", check.signature});
  table.AddRow({"signed by", fmt::format("{} key {}, {}", check.curve, check.key_hint.substr(0, 16), check.key)});
  table.AddRow({"signed as", check.model_name});
  const std::string found = check.comparison.same() ? "all as signed" : Differences(check);
  table.AddRow({"files", fmt::format("{} of {}: {}", Files(check.files), FormatBytes(check.bytes), found)});
  if (!check.ignored.empty()) {
    const size_t shown = std::min<size_t>(check.ignored.size(), 5);
    table.AddRow(
        {"left out",
         fmt::format("{}{}", fmt::join(check.ignored.begin(), check.ignored.begin() + shown, ", "),
                     shown < check.ignored.size() ? fmt::format(" and {}", Files(check.ignored.size() - shown)) : "")});
  }
  if (check.statement) {
    table.AddRow({"root", kernels::ToHex(check.statement->root)});
    table.AddRow({"stated", kernels::ToHex(check.statement->stated_root)});
  }
  text += table.ToString("  ");
  text += fmt::format("\n  proves          {}\n  does not prove  {}\n", Proves(check), DoesNotProve(check));
  Table files({"file", ""});
  size_t rows = 0;
  for (const FileDifference& difference : check.comparison.differences) {
    if (rows++ < kMostRows) files.AddRow({difference.name, Words(difference.change)});
  }
  if (!files.empty()) text += "\n" + files.ToString("  ");
  if (rows > kMostRows) text += fmt::format("  ... and {} more (all of them with --json)\n", rows - kMostRows);
  if (check.manifest) text += "\n" + ManifestCheckText(*check.manifest);
  return text + fmt::format("\n  {}, read {}, {} of {} at most\n", FormatSeconds(check.seconds),
                            FormatBytes(check.bytes_read), FormatMemory(check.peak_bytes),
                            FormatMemory(check.budget_bytes));
}

ordered_json SigningJson(const verify::SigningResult& result) {
  ordered_json json;
  json["ref"] = result.ref;
  json["signature"] = result.signature;
  json["key"] = {{"hint", result.key_hint}, {"curve", result.curve}};
  json["model_name"] = result.manifest.model_name;
  json["digest"] = kernels::ToHex(result.manifest.root());
  json["files"] = ordered_json::array();
  uint64_t bytes = 0;
  for (size_t i = 0; i < result.manifest.entries.size(); ++i) {
    const verify::ManifestEntry& entry = result.manifest.entries[i];
    bytes += result.size_bytes[i];
    json["files"].push_back(
        {{"name", entry.name}, {"bytes", result.size_bytes[i]}, {"digest", kernels::ToHex(entry.digest)}});
  }
  json["ignored"] = result.ignored;
  json["bytes"] = bytes;
  json["bytes_read"] = result.bytes_read;
  json["seconds"] = result.seconds;
  json["peak_memory_bytes"] = result.peak_memory_bytes;
  return json;
}

std::string SigningText(const verify::SigningResult& result) {
  Table table({"", ""});
  table.AddRow({"signed by", fmt::format("{} key {}", result.curve, result.key_hint.substr(0, 16))});
  table.AddRow({"signed as", result.manifest.model_name});
  table.AddRow(
      {"files", fmt::format("{} of {}", Files(result.manifest.entries.size()), FormatBytes(result.bytes_read))});
  if (!result.ignored.empty()) table.AddRow({"left out", Files(result.ignored.size())});
  table.AddRow({"took", fmt::format("{}, {} of memory at most", FormatSeconds(result.seconds),
                                    FormatMemory(result.peak_memory_bytes))});
  return result.signature + "\n" + table.ToString("  ") +
         fmt::format("\n  to check it: sluice verify {} --signature {} --key PUBLIC.pem\n", result.ref,
                     result.signature);
}

}  // namespace sluice::report
