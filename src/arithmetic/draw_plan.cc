#include "arithmetic/draw_plan.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <numeric>

namespace sluice::arithmetic {
namespace {

// The number of the layer (the first part of the name that is one); embeddings come before, all else after.
int64_t PlaceInOutput(std::string_view name) {
  for (size_t dot = name.find('.'); dot != std::string_view::npos; dot = name.find('.', dot + 1)) {
    const size_t end = name.find('.', dot + 1);
    if (end == std::string_view::npos) break;
    const std::string_view part = name.substr(dot + 1, end - dot - 1);
    int64_t number = 0;
    const auto [parsed_to, error] = std::from_chars(part.data(), part.data() + part.size(), number);
    if (error == std::errc() && parsed_to == part.data() + part.size() && number >= 0) return number;
  }
  return name.find("embed") != std::string_view::npos ? -1 : std::numeric_limits<int64_t>::max();
}

}  // namespace

void DrawPlan::Add(std::string_view label, std::string_view output_name, std::span<const uint64_t> draws) {
  tensors_.push_back({std::string(label), PlaceInOutput(output_name), draws_.size(), draws_.size() + draws.size()});
  draws_.insert(draws_.end(), draws.begin(), draws.end());
}

void DrawPlan::Finish() {
  std::vector<size_t> order(tensors_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const int labels = tensors_[a].label.compare(tensors_[b].label);
    return labels != 0 ? labels < 0 : tensors_[a].place < tensors_[b].place;
  });
  for (const size_t i : order) {
    for (size_t m = tensors_[i].begin; m < tensors_[i].end; ++m) {
      const uint64_t draws = draws_[m];
      draws_[m] = total_;
      total_ += draws;
    }
    tensors_[i].label = {};
  }
}

std::span<const uint64_t> DrawPlan::FirstDraws(size_t i) const {
  return std::span(draws_).subspan(tensors_[i].begin, tensors_[i].end - tensors_[i].begin);
}

}  // namespace sluice::arithmetic
