// SampleResult: what was found by looking at drawn blocks of two models, or of one beside a fingerprint.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/catalogue.h"
#include "checkpoint/model_config.h"
#include "verify/block_facts.h"
#include "verify/block_sample.h"
#include "verify/sample_statistics.h"
#include "verify/tensor_diff.h"

namespace sluice::verify {

// A tensor that both sides have, in one shape. A head that one side alone stores meets the embedding of that same side,
// of which it may be a stored copy: what the other side's embedding holds says nothing about that.
struct TensorPair {
  std::string name;
  uint32_t a = 0, b = 0;  // in the catalogues; tied: head and embedding, both in that of the side that has the head
  bool tied = false;
  bool head_in_a = false;  // tied: that side is A
};
std::vector<TensorPair> PairTensors(const checkpoint::Catalogue& a, const checkpoint::Catalogue& b);

struct SampledTensor {
  std::string name, encoding_a, encoding_b;
  std::vector<uint64_t> shape;
  bool tied = false;  // head and embedding of one side
  uint64_t num_elements = 0, num_blocks = 0;
  std::vector<uint64_t> drawn;          // indices of blocks, ascending
  std::vector<BlockComparison> blocks;  // one for each
};

// A tensor of which at least one drawn block has other numbers.
struct DifferingTensor {
  std::string name, encoding_a, encoding_b;
  std::vector<uint64_t> shape;
  bool tied = false;                              // a head that one side alone stores, and no copy of its embedding
  BlockState state = BlockState::kChanged;        // kChanged, kUnknown or kRounded: the worst that explains all blocks
  RoundedSide rounded_side = RoundedSide::kNone;  // of kRounded
  uint64_t blocks = 0, all_blocks = 0, differing = 0;
  uint64_t first_element = 0;            // of the first drawn block that differs
  std::optional<DifferenceStats> stats;  // over the drawn blocks, where both sides' numbers were there
};

struct SampleRow {
  std::string name;  // a part of the model ("attention"), or "all"
  SampleStatistics statistics;
};

struct SampleResult {
  std::string nonce;    // hexadecimal
  std::string against;  // the file of a fingerprint; empty: both models were read
  SampleAim aim;
  uint64_t num_draws = 0;  // s
  uint64_t blocks = 0, all_blocks = 0;
  uint64_t bytes_read = 0;
  uint64_t identical = 0, equal_after_cast = 0, rounded = 0, unknown = 0, changed = 0;  // blocks
  // Of tensors with rounded blocks: which side may be the rounding in all of them; kNone where they disagree.
  RoundedSide rounded_side = RoundedSide::kNone;
  std::vector<DifferingTensor> differing;  // sorted by name
  std::vector<SampleRow> rows;             // the last is all of them

  bool SurelyDiffers() const;  // no rounding of one side explains it
  bool Equal() const { return rounded + unknown + changed == 0; }
  bool IsCensus() const { return blocks == all_blocks; }
  // "had 0.1% of the 976,234 blocks been different, ...": what finding them equal proves.
  std::string Bound() const;
};

// `config` (may be null) tells the parts of the model.
SampleResult SummariseSample(const std::vector<SampledTensor>& tensors, const BlockSample& sample, const Nonce& nonce,
                             const SampleAim& aim, const checkpoint::ModelConfig* config);

// For the list of a verification: the tensors of which drawn blocks prove that they changed.
std::vector<TensorDiff> ChangedTensors(const SampleResult& sample);

// Statistics of one model's sample, where there is no other side.
std::vector<SampleRow> DescribeParts(const std::vector<SampledTensor>& tensors, const checkpoint::ModelConfig* config,
                                     double confidence);

}  // namespace sluice::verify
