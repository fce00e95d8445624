// ShardPlan: which tensor goes where in which file, known before a weight is read. Here safetensors files are planned;
// gguf_export.h plans a GGUF. Depends on names,
// encodings and shapes alone, so the same tensors make the same files. docs of the format:
// https://github.com/huggingface/safetensors.
//
// Tensors are dealt to shards by name, in order; a shard is closed before it would exceed the size, and a tensor over
// the size stands alone. Within a file: dtype widest first, then name. The header is padded with spaces so that data
// starts at a multiple of 4 KiB.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/catalogue.h"

namespace sluice::checkpoint {

struct ShardPlan {
  struct Shard {
    std::string file_name;
    uint32_t begin, end;    // places in `order`
    uint64_t header_bytes;  // with the length before it and the padding: where data starts
    uint64_t data_bytes;
    uint64_t size_bytes() const { return header_bytes + data_bytes; }
  };
  std::vector<Shard> shards;
  std::vector<uint32_t> order;  // index into the catalogue at each place: as the files hold them, shard by shard
  uint64_t tensor_bytes = 0;
  uint64_t total_elements = 0;
  bool one_file = false;   // that goes by the output's name; else a folder of them
  uint64_t alignment = 1;  // zeros follow each tensor, up to a multiple of this; counted in data_bytes
  std::shared_ptr<const std::string> header =
      {};  // of the one file, where it is no safetensors file; else HeaderText has it

  bool has_index() const { return shards.size() > 1; }
  uint64_t file_bytes() const;  // of all shards
};

constexpr uint64_t kDefaultShardBytes = 5'000'000'000;

// kUnsupported for what safetensors cannot hold: an encoding without a dtype, a name, a header over its limit.
// `tensors` is sorted; max_shard_bytes counts tensor bytes, without the header.
Result<ShardPlan> PlanShards(const Catalogue& tensors, uint64_t max_shard_bytes);
// The same in one file of this name.
Result<ShardPlan> PlanOneFile(const Catalogue& tensors, std::string file_name);

// A shard's file up to where data starts: header_bytes, *plan.header or as formats/safetensors.h writes it.
Result<std::string> HeaderText(const Catalogue& tensors, const ShardPlan& plan, size_t shard);

using Emit = std::function<Result<void>(std::string_view)>;
// model.safetensors.index.json, in small pieces: metadata.total_parameters, metadata.total_size, weight_map by name.
Result<void> EmitIndex(const Catalogue& tensors, const ShardPlan& plan, const Emit& emit);

}  // namespace sluice::checkpoint
