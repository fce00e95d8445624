// sluice_synth: models for the demo and the bench. Nothing here reads or writes weights in a way of its own: a
// synthetic model is a checkpoint like any other, streamed into the CheckpointWriter.
//
//   sluice_synth model --shape yi-34b --layers 2 -o DIR      seeded weights of a Llama of these sizes
//   sluice_synth finetune REF -o DIR --seed 7                REF with a seeded update on every float tensor
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <limits>
#include <thread>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "base/memory_budget.h"
#include "base/thread_pool.h"
#include "checkpoint/checkpoint_writer.h"
#include "checkpoint/model_ref.h"
#include "stream/checkpoint_groups.h"
#include "stream/sink.h"
#include "stream/writer_sink.h"
#include "synth_models.h"

namespace sluice::tools {
namespace {

struct Options {
  std::string output, shard_size = "5GB", max_memory, dtype, shape = "smollm2", base;
  uint64_t seed = 0, layers = 0, shards = 0;
  double scale = 0.01;
  int threads = 0;
  bool force = false, quiet = false;
};

Result<void> Write(const checkpoint::Checkpoint& model, const Options& options) {
  const auto start = std::chrono::steady_clock::now();
  checkpoint::WriteOptions write;
  write.force = options.force;
  SLUICE_ASSIGN(write.max_shard_bytes, ParseShardSize(options.shard_size));
  if (options.shards > 0) {
    // Dealing by name fills the last shard least, so a little over the n-th part is where n shards come out; tried from
    // there.
    const checkpoint::Catalogue& tensors = model.tensors();
    uint64_t size = CeilDiv(tensors.total_bytes(), options.shards);
    for (;; size += size / 64 + 1) {
      SLUICE_ASSIGN(const checkpoint::ShardPlan plan, checkpoint::PlanShards(tensors, size));
      if (plan.shards.size() <= options.shards) break;
    }
    write.max_shard_bytes = size;
  }
  uint64_t memory = AvailableMemoryBytes() / 2;
  if (!options.max_memory.empty()) {
    SLUICE_ASSIGN(memory, ParseSize(options.max_memory));
  }

  SLUICE_ASSIGN(const auto writer, checkpoint::CheckpointWriter::Create(options.output, model.tensors(), write));
  MemoryBudget budget(memory);
  stream::WriterSink sink(writer.get());
  stream::Sink* const sinks[] = {&sink};
  stream::StreamOptions stream_options;
  stream_options.num_threads = options.threads > 0 ? options.threads : DefaultThreads();
  stream_options.wants = stream::Together(sinks);
  stream_options.budget = &budget;
  const stream::CheckpointGroups groups(model, writer->plan().order);
  SLUICE_ASSIGN(const auto stream, stream::Stream::Open(groups, stream_options));
  SLUICE_TRY(stream::Pump(*stream, sinks));
  SLUICE_TRY(writer->AddFilesOf(model));
  SLUICE_ASSIGN(const std::vector<checkpoint::WrittenFile> files, writer->Commit());
  if (!options.quiet) {
    uint64_t bytes = 0;
    for (const checkpoint::WrittenFile& file : files) bytes += file.size_bytes;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    fmt::print("{}: {}, {} parameters, {} in {}, {} resident at most\n", options.output, model.ref(),
               FormatCount(model.tensors().total_elements()), FormatBytes(bytes), FormatSeconds(seconds),
               FormatMemory(PeakResidentBytes()));
  }
  return {};
}

Result<quant::Encoding> ParseDtype(const std::string& name) {
  const quant::Encoding encoding = quant::FloatByDtypeName(name);
  if (!encoding.valid())
    return Fail(ErrorCode::kUsage, fmt::format("--dtype {}: want bfloat16, float16 or float32", name));
  return encoding;
}

Result<void> MakeModel(const Options& options) {
  const auto* found = std::ranges::find(kLlamaShapes, options.shape, &LlamaShape::name);
  if (found == std::end(kLlamaShapes)) {
    return Fail(ErrorCode::kUsage, fmt::format("--shape {}: want yi-34b, tinyllama, smollm2 or tiny", options.shape));
  }
  LlamaShape shape = *found;
  if (options.layers > 0) shape.layers = options.layers;
  SLUICE_ASSIGN(const quant::Encoding encoding, ParseDtype(options.dtype.empty() ? "bfloat16" : options.dtype));
  return Write(SyntheticLlama(shape, encoding, options.seed), options);
}

Result<void> MakeFineTune(const Options& options) {
  SLUICE_ASSIGN(auto base, checkpoint::OpenCheckpoint(options.base, {}));
  std::optional<quant::Encoding> encoding;
  if (!options.dtype.empty()) {
    SLUICE_ASSIGN(encoding, ParseDtype(options.dtype));
  }
  return Write(SyntheticFineTune(std::move(base), options.seed, static_cast<float>(options.scale), encoding), options);
}

void AddCommonOptions(CLI::App* app, Options* options) {
  app->add_option("-o,--output", options->output, "folder to write")->required();
  app->add_option("--seed", options->seed, "seed of all values (default 0)");
  app->add_option("--dtype", options->dtype, "bfloat16, float16 or float32");
  auto* size =
      app->add_option("--out-shard-size", options->shard_size, "most bytes of tensors in a file (default 5GB)");
  app->add_option("--shards", options->shards, "write at most so many files instead")
      ->check(CLI::Range(1, 99999))
      ->excludes(size);
  app->add_option("-t,--threads", options->threads, "threads that compute (default: all cores)")
      ->check(CLI::Range(1, 4096));
  app->add_option("--max-memory", options->max_memory,
                  "most that the process may hold resident (default: half of what is free)");
  app->add_flag("--force", options->force, "replace what stands at the output");
  app->add_flag("--quiet", options->quiet, "print nothing");
}

}  // namespace
}  // namespace sluice::tools

int main(int argc, char** argv) {
  using namespace sluice;
  using namespace sluice::tools;
  TameAllocator();
  Options options;
  CLI::App app("Synthetic checkpoints for the demo and the bench");
  app.require_subcommand(1);
  CLI::App* model = app.add_subcommand("model", "a Llama of seeded weights");
  model->add_option("--shape", options.shape, "sizes of: yi-34b, tinyllama, smollm2 (default), tiny");
  model->add_option("--layers", options.layers, "so many layers instead of the model's own")
      ->check(CLI::Range(1, 100000));
  AddCommonOptions(model, &options);
  CLI::App* finetune = app.add_subcommand("finetune", "a model with a seeded update on every float tensor");
  finetune->add_option("base", options.base, "the model, as sluice takes it")->required();
  finetune
      ->add_option("--scale", options.scale,
                   "standard deviation of the update, in root mean squares of its tensor (default 0.01)")
      ->check(CLI::Range(0.0, 1e6));
  AddCommonOptions(finetune, &options);
  CLI11_PARSE(app, argc, argv);

  const Result<void> result = model->parsed() ? MakeModel(options) : MakeFineTune(options);
  if (!result) {
    fmt::print(stderr, "sluice_synth: {}\n", result.error().ToString());
    return ExitStatus(result.error().code);
  }
  return 0;
}
