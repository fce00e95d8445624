// ChangeMeter: what TensorDetails tells of one tensor, gathered while its two sides go by in pieces, from any thread
// and in any order.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "graph/node.h"
#include "quant/encoding.h"
#include "verify/grid_check.h"
#include "verify/rank_sketch.h"
#include "verify/tensor_details.h"

namespace sluice::verify {

// An encoding's numbers as signs and magnitudes in order, and its smallest normal number; nullopt for those that are
// not so.
struct FloatCode {
  int bytes = 0;
  uint32_t special = 0;  // magnitude of the least code that is no finite number
  float least_normal = 0;
};
std::optional<FloatCode> FloatCodeOf(quant::Encoding encoding);
// Of two plain floats that with fewer digits, then fewer exponents.
quant::Encoding Coarser(quant::Encoding a, quant::Encoding b);

class ChangeMeter {
 public:
  struct Setup {
    std::array<quant::Encoding, 2> encodings;
    uint64_t rows = 0, columns = 0;  // 0: not a matrix
    bool tells_rows = false;         // embedding or head
  };
  struct Scratch {  // of one thread
    std::vector<float> folded = std::vector<float>(RankSketch::kScratchFloats);
    std::vector<uint8_t> codes = std::vector<uint8_t>(graph::kPieceElements * 4);
    static constexpr uint64_t kBytes = RankSketch::kScratchFloats * 4 + graph::kPieceElements * 4;
  };

  explicit ChangeMeter(const Setup& setup);

  // Whether a sketch can be made of such a tensor, and of what shape.
  static std::optional<SketchShape> ShapeOfSketch(const Setup& setup);
  static bool LooksAtGrids(const Setup& setup);
  // Before the first piece. `why_not`: where there is no sketch, though there could be one.
  void UseSketch(RankSketch* sketch, std::span<const uint32_t> signs);
  void GoWithoutSketch(std::string why_not) { why_not_ = std::move(why_not); }

  // The first kGridElements of a block of either side, as stored.
  void LookAtGrid(int side, const uint8_t* stored);
  bool wants_grid(int side) const { return fits_[side].load(std::memory_order_relaxed) != 0; }
  // Index in kGrids, or none.
  std::optional<int> grid(int side) const;

  // A piece in which at least one element changed: numbers, and as stored. squared_binades: 16 lanes that go on over
  // the pieces of a block (kernels/delta_sketch.h).
  void AddChanged(graph::Range piece, const float* a, const float* b, const uint8_t* stored_a, const uint8_t* stored_b,
                  Scratch* scratch, double* squared_binades);

  // After the last piece. `changed`: elements; `squared_binades`: the sum over the blocks, in order.
  TensorDetails Finish(uint64_t changed, double squared_binades);

 private:
  void MarkRows(graph::Range piece, const float* a, const float* b);

  const Setup setup_;
  quant::Encoding coarser_;
  std::optional<FloatCode> code_;  // of `coarser_`
  RankSketch* sketch_ = nullptr;
  std::span<const uint32_t> signs_;
  std::string why_not_;
  std::array<std::atomic<uint32_t>, 2> fits_, told_;
  std::unique_ptr<std::atomic<uint64_t>[]> rows_;  // a bit for each
  std::mutex mutex_;
  kernels::UnitDistances distances_;
  uint64_t counted_ = 0;  // changed elements of which both are finite
};

}  // namespace sluice::verify
