// A checkpoint whose tokens have other ids: rows of the embedding and of the head (and a head's bias) taken in another
// order, everything else as it is. With it two models whose tokenizers number the same tokens differently take one
// batch of ids, those that both have first.
//
// Side files and embedded tokenizer stay the inner checkpoint's: they speak of its ids, not of these.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "checkpoint/checkpoint.h"

namespace sluice::checkpoint {

// order[i]: the old id of the token that has id i now; each id once, as many as the config's vocab_size. `inner` itself
// where nothing moves. Rows are gathered as they are stored, quantised ones too: every bit of them stays. Rows that lie
// apart in the file are read one by one, so an order that keeps runs together reads faster. Memory: 4 bytes an id.
// kUsage: not an order of the vocabulary's ids; kUnsupported: no config, or an architecture whose embedding is not
// known; kCorrupt: a tensor of another shape than the config says.
Result<std::shared_ptr<const Checkpoint>> ReorderRows(std::shared_ptr<const Checkpoint> inner,
                                                      std::vector<uint32_t> order);

}  // namespace sluice::checkpoint
