#include "checkpoint/shard_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "formats/json_reader.h"
#include "formats/safetensors.h"

namespace sluice::checkpoint {
namespace {

// Data is written and read by whole pages.
constexpr uint64_t kDataAlignment = 4096;

formats::SafetensorsOutput OutputOf(const TensorInfo& tensor) {
  return {tensor.name, tensor.encoding, tensor.shape, tensor.size_bytes()};
}

// Tensors [begin, end) by name become the file's order; the header's and the data's sizes follow.
Result<void> LayOut(const Catalogue& tensors, ShardPlan* plan, size_t index) {
  ShardPlan::Shard& shard = plan->shards[index];
  std::sort(plan->order.begin() + shard.begin, plan->order.begin() + shard.end,
            [&](uint32_t a, uint32_t b) { return formats::ComesBefore(OutputOf(tensors[a]), OutputOf(tensors[b])); });
  SLUICE_ASSIGN(const std::string header, HeaderText(tensors, *plan, index));
  shard.header_bytes = header.size();
  return {};
}

// An empty file_name: named by number.
Result<ShardPlan> Plan(const Catalogue& tensors, uint64_t max_shard_bytes, const std::string& file_name) {
  ShardPlan plan;
  plan.order.resize(tensors.size());
  std::iota(plan.order.begin(), plan.order.end(), 0);
  plan.shards.push_back({file_name, 0, 0, 0, 0});
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    const TensorInfo tensor = tensors[i];
    const uint64_t size_bytes = tensor.size_bytes();
    const uint64_t shard_bytes = plan.shards.back().data_bytes;
    if (shard_bytes > 0 && size_bytes > 0 &&
        (shard_bytes > max_shard_bytes || size_bytes > max_shard_bytes - shard_bytes)) {
      plan.shards.push_back({file_name, i, i, 0, 0});
    }
    plan.shards.back().end = i + 1;
    plan.shards.back().data_bytes += size_bytes;
    plan.tensor_bytes += size_bytes;
    plan.total_elements += tensor.num_elements;
  }
  for (size_t i = 0; i < plan.shards.size(); ++i) {
    ShardPlan::Shard& shard = plan.shards[i];
    if (file_name.empty()) {
      shard.file_name = plan.has_index() ? fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, plan.shards.size())
                                         : "model.safetensors";
    }
    SLUICE_TRY_IN(shard.file_name, LayOut(tensors, &plan, i));
  }
  return plan;
}

}  // namespace

uint64_t ShardPlan::file_bytes() const {
  uint64_t size_bytes = 0;
  for (const Shard& shard : shards) size_bytes += shard.size_bytes();
  return size_bytes;
}

Result<ShardPlan> PlanShards(const Catalogue& tensors, uint64_t max_shard_bytes) {
  return Plan(tensors, max_shard_bytes, "");
}

Result<ShardPlan> PlanOneFile(const Catalogue& tensors, std::string file_name) {
  SLUICE_ASSIGN(ShardPlan plan, Plan(tensors, ~uint64_t{0}, file_name));
  plan.one_file = true;
  return plan;
}

Result<std::string> HeaderText(const Catalogue& tensors, const ShardPlan& plan, size_t index) {
  if (plan.header != nullptr) return *plan.header;
  const ShardPlan::Shard& shard = plan.shards[index];
  std::vector<formats::SafetensorsOutput> outputs;
  outputs.reserve(shard.end - shard.begin);
  for (uint32_t place = shard.begin; place < shard.end; ++place)
    outputs.push_back(OutputOf(tensors[plan.order[place]]));
  // transformers refuses a file that does not say of which framework it is.
  return formats::WriteSafetensorsHeader(outputs, {{"format", "pt"}}, kDataAlignment);
}

Result<void> EmitIndex(const Catalogue& tensors, const ShardPlan& plan, const Emit& emit) {
  std::vector<uint32_t> shard_of(tensors.size());
  for (uint32_t shard = 0; shard < plan.shards.size(); ++shard) {
    for (uint32_t place = plan.shards[shard].begin; place < plan.shards[shard].end; ++place) {
      shard_of[plan.order[place]] = shard;
    }
  }
  SLUICE_TRY(
      emit(fmt::format("{{\n  \"metadata\": {{\n    \"total_parameters\": {},\n    \"total_size\": {}\n  }},\n"
                       "  \"weight_map\": {{",
                       plan.total_elements, plan.tensor_bytes)));
  std::string line;
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    line = i == 0 ? "\n    " : ",\n    ";
    formats::AppendJsonString(tensors[i].name, &line);
    line += fmt::format(": \"{}\"", plan.shards[shard_of[i]].file_name);
    SLUICE_TRY(emit(line));
  }
  return emit("\n  }\n}\n");
}

}  // namespace sluice::checkpoint
