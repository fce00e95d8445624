// Checkpoints whose weights are FP8 beside scales, seen as the plain model that they stand for: names, shapes and
// config.json as in a model that was never quantised, the scales gone, each weight one node (scaled_node.h).
//
//   X.weight  F8_E4M3 or F8_E5M2, [.., n, k] (or any other name: experts in one tensor have none that ends so)
//   X.weight_scale_inv  (DeepSeek-V3 and what follows it) or X.weight_scale (compressed-tensors, ModelOpt, FBGEMM):
//       what to multiply by, both of them; F32, BF16, F16 or F8_E8M0, one number for
//         all         [] or [1] (or any shape of one number)
//         each row    [.., n, 1] or [.., n]
//         each block  [.., ceil(n / b), ceil(k / c)] of b by c numbers: quantization_config's weight_block_size, or
//                     block_structure or group_size of compressed-tensors, or 128 by 128
//
// Scales of activations and of key/value caches (input_scale, k_scale, ...) are left out: they are not the model's.
// docs/formats/encodings.md.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "checkpoint/checkpoint.h"

namespace sluice::checkpoint {

// `stored` itself where nothing in it is quantised. The result's dtype is config.json's torch_dtype, BF16 where that is
// none. Weights in another form (GPTQ, AWQ, bitsandbytes, MXFP4, ...) stay as they are stored, with a warning that
// names the form. kCorrupt, with file and tensor, for scales of a shape or dtype that fits no weight, and, where
// `is_whole` (all files of the model are there), for an FP8 weight without any. `file` is named where the tensors are
// held against config.json, which is done where `is_whole`.
Result<std::shared_ptr<const Checkpoint>> DecodeScaled(std::shared_ptr<const Checkpoint> stored,
                                                       const std::string& file, bool is_whole);

}  // namespace sluice::checkpoint
