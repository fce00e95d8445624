#include "graph/node.h"

#include <cstring>
#include <string>

#include <fmt/format.h>

#include "base/check.h"
#include "kernels/sha256.h"

namespace sluice::graph {
namespace {

Key KeyOf(std::string_view kind, std::string_view description, quant::Encoding encoding, uint64_t num_elements,
          std::span<const Node* const> inputs) {
  kernels::Sha256 sha;
  sha.UpdateLengthPrefixed(kind);
  sha.UpdateLengthPrefixed(description);
  sha.UpdateLengthPrefixed(encoding.valid() ? encoding.name() : std::string_view());
  sha.UpdateU64(num_elements);
  for (const Node* input : inputs) {
    sha.UpdateU64(input->key().hi);
    sha.UpdateU64(input->key().lo);
  }
  const kernels::Hash256 hash = sha.Finish();
  Key key;
  std::memcpy(&key.hi, hash.data(), 8);
  std::memcpy(&key.lo, hash.data() + 8, 8);
  return key;
}

}  // namespace

Key HashKey(std::string_view description) { return KeyOf("key", description, {}, 0, {}); }

uint64_t Fact::num_elements() const { return inputs_.front()->num_elements(); }

Fact::Fact(std::string_view description, std::vector<const Node*> inputs) : inputs_(std::move(inputs)) {
  SLUICE_CHECK(!inputs_.empty());
  for (const Node* input : inputs_) SLUICE_CHECK(input->num_elements() == inputs_.front()->num_elements());
  key_ = KeyOf("fact", description, {}, num_elements(), inputs_);
}

Node::Node(std::string_view description, quant::Encoding encoding, uint64_t num_elements,
           std::vector<const Node*> inputs)
    : key_(KeyOf("node", description, encoding, num_elements, inputs)),
      encoding_(encoding),
      num_elements_(num_elements),
      inputs_(std::move(inputs)) {}

void Node::Needs(Range out, NeedList* needs) const {
  for (uint32_t input = 0; input < inputs_.size(); ++input) needs->Add(input, out);
}

}  // namespace sluice::graph
