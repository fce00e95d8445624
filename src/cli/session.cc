#include "cli/session.h"

#include <cerrno>
#include <cstdio>

#include <fmt/format.h>

#include "base/units.h"
#include "merge/recipe_checkpoint.h"
#include "verify/api_model/api_model.h"

namespace sluice::cli {

double Session::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
}

checkpoint::OpenOptions MakeOpenOptions(std::optional<uint64_t> seed, std::optional<std::string> arithmetic,
                                        const std::string& lora_merge_dtype) {
  checkpoint::OpenOptions open;
  open.seed = seed;
  open.arithmetic = std::move(arithmetic);
  open.lora_merge_dtype = quant::FloatByDtypeName(lora_merge_dtype);
  open.openers.push_back(merge::OpenRecipeReference);
  return open;
}

Result<std::shared_ptr<const checkpoint::Checkpoint>> Session::Open(const std::string& ref,
                                                                    std::optional<uint64_t> seed,
                                                                    std::optional<std::string> arithmetic,
                                                                    const std::string& lora_merge_dtype) const {
  if (verify::api_model::IsApiReference(ref)) {
    return FailIn(
        ErrorCode::kUnsupported, ref,
        "a model behind a server has no weights that could be read: `sluice verify --level behaviour` asks it");
  }
  return checkpoint::OpenCheckpoint(ref, MakeOpenOptions(seed, std::move(arithmetic), lora_merge_dtype));
}

Result<void> Session::CheckHeadersFit() const {
  TrimHeap();  // what parsing left behind
  const uint64_t needed = ResidentBytes() + MemoryBudget::kMarginBytes;
  if (needed <= options.max_memory_bytes) return {};
  return Fail(ErrorCode::kBudget,
              fmt::format("--max-memory {} cannot hold the program and the headers of the models: give "
                          "--max-memory {}MiB or more",
                          FormatMemory(options.max_memory_bytes), AdvisedMib(needed)));
}

void Session::Print(const nlohmann::ordered_json& json, std::string_view text) {
  std::string out(text);
  if (options.json) {
    nlohmann::ordered_json with_schema;
    with_schema["schema"] = fmt::format("sluice/{}/v1", command_);
    with_schema.update(json);
    out = with_schema.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }
  if (std::fwrite(out.data(), 1, out.size(), stdout) != out.size() || std::fflush(stdout) != 0) print_errno_ = errno;
}

void Session::Note(std::string_view text) const { fmt::print(stderr, "sluice: note: {}\n", text); }
void Session::Warn(std::string_view text) const { fmt::print(stderr, "sluice: warning: {}\n", text); }

void Session::WarnOf(const checkpoint::Checkpoint& checkpoint) const {
  for (const checkpoint::Problem& problem : checkpoint.problems()) {
    if (problem.severity == checkpoint::Problem::Severity::kNote) continue;
    std::string where = checkpoint.ref();
    if (!problem.file.empty()) where += ": " + problem.file;
    if (!problem.tensor.empty()) where += ": " + problem.tensor;
    Warn(where + ": " + problem.message);
  }
}

}  // namespace sluice::cli
