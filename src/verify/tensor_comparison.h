// TensorComparison: one tensor while its two sides go by, in pieces, from any thread and in any order: whether its
// bytes are equal, what a cast, a rounding or a tolerance explains, and sums over what is left. TensorOutcome is what
// stays.
//
// Numbers go block by block (65,536 elements), and blocks are added up in the order of their index: the outcome depends
// neither on threads nor on how the tensor was cut.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "graph/node.h"
#include "kernels/sha256.h"
#include "quant/encoding.h"
#include "verify/change_meter.h"
#include "verify/difference.h"
#include "verify/tensor_diff.h"

namespace sluice::verify {

// The first difference of a pass that ends there: the least tensor by its group, and in it the least element where that
// is known. From any thread.
class FirstDifference {
 public:
  struct Place {
    uint32_t group = 0;
    std::optional<uint64_t> element;
  };
  void Note(uint32_t group, std::optional<uint64_t> element);
  bool found() const { return found_.load(); }
  Place place() const;  // found() given

 private:
  mutable std::mutex mutex_;
  Place place_;
  std::atomic<bool> found_{false};
};

struct TensorOutcome {
  static constexpr uint64_t kNone = std::numeric_limits<uint64_t>::max();

  kernels::Hash256 digest[2] = {};  // tensor roots, of the sides that there are
  TensorClass tensor_class = TensorClass::kIdentical;
  RoundedSide rounded = RoundedSide::kNone;
  uint64_t first_changed = kNone;
  std::unique_ptr<DifferenceStats> stats;
  std::unique_ptr<TensorDetails> details;
  bool looked_at_grid[2] = {};
  int8_t grid[2] = {-1, -1};  // index in kGrids
};

class TensorComparison {
 public:
  struct Setup {
    uint32_t group = 0;
    std::array<bool, 2> has = {};  // which sides have the tensor; at least one
    bool shapes_differ = false;    // of one side alone: the other has the name, in another shape
    uint64_t num_elements = 0;
    ChangeMeter::Setup meter;  // with the encodings of the sides that there are
    double atol = 0, rtol = 0;
    FirstDifference* first = nullptr;  // null: everything is to be told; else nothing but what comes first
  };
  struct Scratch {  // of one thread
    std::vector<float> a = std::vector<float>(graph::kPieceElements), b = std::vector<float>(graph::kPieceElements),
                       again = std::vector<float>(graph::kPieceElements);
    // No plain encoding is wider than 8 bytes, no block encoding than 4 bytes an element.
    std::vector<uint8_t> bytes = std::vector<uint8_t>(graph::kPieceElements * 8);
    ChangeMeter::Scratch meter;
    static constexpr uint64_t kBytes = graph::kPieceElements * (3 * sizeof(float) + 8) + ChangeMeter::Scratch::kBytes;
  };

  explicit TensorComparison(const Setup& setup);

  uint32_t group() const { return setup_.group; }
  bool has(int side) const { return setup_.has[side]; }
  bool has_both() const { return has(0) && has(1); }
  uint64_t num_elements() const { return setup_.num_elements; }
  quant::Encoding encoding(int side) const { return setup_.meter.encodings[side]; }
  uint64_t SizeBytes(int side) const { return encoding(side).BytesOf(setup_.num_elements); }
  bool same_encoding() const { return same_encoding_; }
  bool numbers() const { return numbers_; }  // both sides decode to numbers, which are compared
  bool bytes_differ() const { return bytes_differ_; }

  // Where a sketch can be made of it, before the first block.
  std::optional<SketchShape> ShapeOfSketch() const;
  void UseSketch(RankSketch* sketch, std::span<const uint32_t> signs) {
    sketch_ = sketch;
    meter_->UseSketch(sketch, signs);
  }
  void GoWithoutSketch(std::string why_not) { meter_->GoWithoutSketch(std::move(why_not)); }
  RankSketch* sketch() const { return sketch_; }  // that it uses, or null

  // Of a chunk of kChunkBytes, in bytes of the side: its place for the hash, written by whoever hashes it.
  kernels::Hash256* hash(int side, uint64_t chunk) { return &chunks_[side][chunk]; }
  // Sides of one encoding, whose bytes from `first_byte` on are not equal.
  void NoteBytesDiffer(uint64_t first_byte, const uint8_t* a, const uint8_t* b, uint64_t size_bytes);

  // Numbers of whole blocks (the last of the tensor may be a part of one), as stored.
  void CompareBlocks(graph::Range range, const uint8_t* a, const uint8_t* b, Scratch* scratch);
  // Of a tensor of at most a block whose bytes are equal: what there is to see without comparing.
  void LookAtGrids(const uint8_t* a, const uint8_t* b);

  // Tasks that work on it, one from the start for whoever brings the pieces. Close tells whether it was the last one.
  void Open() { ++open_; }
  bool Close() { return --open_ == 0; }

  // After the last.
  TensorOutcome Finish();

 private:
  bool has_tolerance() const { return setup_.atol > 0 || setup_.rtol > 0; }
  bool SurelyDiffers() const;
  void ExplainPiece(uint64_t count, const float* x, const float* y, const uint8_t* a, const uint8_t* b,
                    Scratch* scratch);
  void Classify(TensorOutcome* outcome);

  const Setup setup_;
  const bool same_encoding_, numbers_;
  std::vector<kernels::Hash256> chunks_[2];
  std::atomic<bool> bytes_differ_{false}, values_differ_{false}, a_is_no_rounding_, b_is_no_rounding_,
      beyond_tolerance_{false};
  std::atomic<uint64_t> first_changed_{TensorOutcome::kNone};
  std::optional<ChangeMeter> meter_;  // where both sides are numbers
  RankSketch* sketch_ = nullptr;

  // Block sums by first block, until all before them are in `total_`.
  std::mutex mutex_;
  uint64_t next_block_ = 0;
  std::map<uint64_t, std::vector<DifferenceSums>> waiting_;
  DifferenceSums total_;

  std::atomic<int64_t> open_{1};
};

}  // namespace sluice::verify
