#include "arithmetic/testing/node_runner.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <thread>

#include "base/check.h"
#include "graph/kept_node.h"
#include "io/memory_source.h"

namespace sluice::tests {

using graph::kBlockElements;
using graph::Range;
using graph::View;

namespace {

// Room for size_bytes at an address that is `off` bytes after a multiple of 64.
uint8_t* Place(std::vector<uint8_t>* storage, uint64_t size_bytes, uint64_t off) {
  storage->assign(size_bytes + off + 128, 0);
  auto address = reinterpret_cast<uintptr_t>(storage->data());
  return storage->data() + ((address + 63) / 64 * 64 - address) + off;
}

}  // namespace

std::shared_ptr<const io::ByteSource> MemoryBytes(std::vector<uint8_t> bytes) {
  return std::make_shared<io::MemorySource>("memory", std::move(bytes));
}

const graph::Node* AddFloats(graph::Graph* graph, const std::vector<float>& values) {
  std::vector<uint8_t> bytes(values.size() * sizeof(float));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return graph->AddStored(MemoryBytes(std::move(bytes)), 0, quant::F32(), values.size());
}

void NodeRunner::Compute(const graph::Node* node, Range range, bool is_result, std::vector<uint8_t>* storage,
                         const uint8_t** data) {
  // What is computed for others stands at a multiple of 64, as in a stream.
  const auto* stored = dynamic_cast<const graph::StoredNode*>(node);
  uint8_t* place =
      Place(storage, graph::BytesOfPiece(*node, range), stored != nullptr || is_result ? options_.misalign_bytes : 0);
  *data = place;
  if (stored != nullptr) {
    const Range bytes = stored->BytesOf(range);
    SLUICE_CHECK(stored->source().Read(bytes.begin, {place, bytes.size()}).has_value());
    return;
  }
  graph::NeedList needs;
  node->Needs(range, &needs);
  std::vector<std::vector<uint8_t>> storages(needs.needs().size());
  std::vector<View> views;
  for (size_t i = 0; i < storages.size(); ++i) {
    const graph::Need& need = needs.needs()[i];
    View view{nullptr, need.range};
    Compute(node->inputs()[need.input], need.range, false, &storages[i], &view.data);
    views.push_back(view);
  }
  std::vector<const graph::FactValue*> facts;
  for (const auto& fact : node->facts()) facts.push_back(&facts_.at(fact->key()));
  std::vector<uint8_t> scratch;
  node->Compute({range, views, facts, Place(&scratch, node->ScratchBytes(), 0), place});
}

const graph::FactValue& NodeRunner::Fold(const graph::Fact& fact) {
  if (const auto found = facts_.find(fact.key()); found != facts_.end()) return found->second;
  for (const graph::Node* input : fact.inputs()) {
    for (const auto& inner : input->facts()) Fold(*inner);
  }
  const uint64_t num_blocks = (fact.num_elements() + kBlockElements - 1) / kBlockElements;
  std::unique_ptr<graph::Fold> fold = fact.Begin(options_.threads);
  graph::FactValue value;
  for (int pass = 1;; ++pass) {
    SLUICE_CHECK(pass <= fact.max_passes());
    ++passes_;
    std::vector<uint64_t> wanted;
    for (uint64_t block = 0; block < num_blocks; ++block) {
      if (fold->Wants(block)) wanted.push_back(block);
    }
    if (options_.backwards) std::reverse(wanted.begin(), wanted.end());
    blocks_ += wanted.size();
    std::atomic<size_t> next{0};
    const auto work = [&](int worker) {
      for (size_t i = next++; i < wanted.size(); i = next++) {
        const uint64_t end = std::min((wanted[i] + 1) * kBlockElements, fact.num_elements());
        for (uint64_t begin = wanted[i] * kBlockElements; begin < end; begin += options_.piece_elements) {
          const Range piece{begin, std::min(begin + options_.piece_elements, end)};
          std::vector<std::vector<uint8_t>> storages(fact.inputs().size());
          std::vector<View> views;
          for (size_t input = 0; input < storages.size(); ++input) {
            View view{nullptr, piece};
            Compute(fact.inputs()[input], piece, false, &storages[input], &view.data);
            views.push_back(view);
          }
          fold->Add(worker, piece, views);
        }
      }
    };
    std::vector<std::thread> threads;
    for (int worker = 1; worker < options_.threads; ++worker) threads.emplace_back(work, worker);
    work(0);
    for (std::thread& thread : threads) thread.join();
    if (fold->Finish(&value)) break;
  }
  return facts_[fact.key()] = value;
}

std::vector<uint8_t> NodeRunner::Run(const graph::Node* node) {
  const auto fold_all = [&](const graph::Node* from, const auto& self) -> void {
    for (const graph::Node* input : from->inputs()) self(input, self);
    for (const auto& fact : from->facts()) Fold(*fact);
  };
  fold_all(node, fold_all);
  std::vector<uint8_t> result;
  for (uint64_t begin = 0; begin < node->num_elements(); begin += options_.piece_elements) {
    const Range piece{begin, std::min(begin + options_.piece_elements, node->num_elements())};
    std::vector<uint8_t> storage;
    const uint8_t* data = nullptr;
    Compute(node, piece, true, &storage, &data);
    result.insert(result.end(), data, data + graph::BytesOfPiece(*node, piece));
  }
  return result;
}

std::vector<float> NodeRunner::RunF32(const graph::Node* node) {
  SLUICE_CHECK(node->encoding() == quant::F32());
  const std::vector<uint8_t> bytes = Run(node);
  std::vector<float> values(bytes.size() / sizeof(float));
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace sluice::tests
