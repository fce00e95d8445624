// DrawPlan: where in torch's stream each tensor's and model's draws begin. mergekit seeds one generator per merge and
// draws tensor by tensor: in the byte order of labels (a tensor's label is the greatest of the names that its inputs
// bear in their own models), equal labels in the order of the output; within a tensor in the order of its models.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::arithmetic {

class DrawPlan {
 public:
  // Of tensor number size(). draws: how many words each of its models takes. Memory: the label until Finish, 8 bytes
  // for each model.
  void Add(std::string_view label, std::string_view output_name, std::span<const uint64_t> draws);
  void Finish();

  size_t size() const { return tensors_.size(); }
  // After Finish: the first draw of each model of tensor i.
  std::span<const uint64_t> FirstDraws(size_t i) const;
  uint64_t total() const { return total_; }

 private:
  struct Tensor {
    std::string label;
    int64_t place;  // in the output: embeddings, layers by number, then the rest
    size_t begin, end;
  };
  std::vector<Tensor> tensors_;
  std::vector<uint64_t> draws_;
  uint64_t total_ = 0;
};

}  // namespace sluice::arithmetic
