// InOrderFold: a fold whose numbers must be taken in the tensor's order (ordered_sums.h), though its blocks come in any
// order from any worker. Workers compute what is to be added up; one at a time takes whole blocks of that in order, and
// blocks that come before their turn wait. Where too many would wait, the last of them are let go, and the tensor
// passes by once more from the first that is missing: with blocks that come nearly in order, which is how a stream
// gives them, never.
//
// A fold may go over the tensor in several steps, each of which uses what the one before has found.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <vector>

#include "graph/node.h"

namespace sluice::arithmetic {

class InOrderFold : public graph::Fold {
 public:
  // max_rows: most rows that a step has.
  InOrderFold(uint64_t num_elements, uint64_t max_rows, int num_workers);

  // What a Fact with such a fold says of itself; with what a derived class holds beside it.
  static uint64_t StateBytes(uint64_t num_elements, uint64_t max_rows, int num_workers);
  static int MaxPasses(uint64_t num_elements, uint64_t num_steps);

  bool Wants(uint64_t block) const final { return block >= first_wanted_; }
  void Add(int worker, graph::Range piece, std::span<const graph::View> in) final;
  bool Finish(graph::FactValue* value) final;

 protected:
  // How many numbers of each element this step takes.
  virtual uint64_t num_rows() const = 0;
  // Writes them: rows[r][i] of the piece's element i. Pure, from several workers at once. piece.size() is at most
  // graph::kPieceElements.
  virtual void Compute(graph::Range piece, std::span<const graph::View> in, float* const* rows) const = 0;
  // Takes them, in order: of elements [begin, begin + count), a block.
  virtual void Take(uint64_t begin, uint64_t count, const float* const* rows) = 0;
  // After all elements: true and the value, or false for another step.
  virtual bool EndStep(graph::FactValue* value) = 0;

  uint64_t num_elements() const { return num_elements_; }

 private:
  static constexpr uint64_t kMostWaiting = 16;

  void Deliver(uint64_t block, std::vector<float> numbers);
  void TakeFrom(uint64_t block, std::vector<float> numbers, std::unique_lock<std::mutex>* lock);

  const uint64_t num_elements_, num_blocks_;
  uint64_t first_wanted_ = 0;               // of this pass
  std::vector<std::vector<float>> blocks_;  // by worker: the block at hand, [row][element]
  std::mutex mutex_;
  std::condition_variable room_;
  std::map<uint64_t, std::vector<float>> waiting_;
  uint64_t next_ = 0;  // the block that must be taken
  bool taking_ = false;
};

}  // namespace sluice::arithmetic
