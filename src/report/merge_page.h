// The page of `merge --report`: what a merge is made of, how far its parents and its result lie from the base, what it
// took. Pure: the same input gives the same bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "merge/distance_sink.h"
#include "report/results.h"
#include "stream/stream.h"

namespace sluice::report {

// Of a pass under way.
struct TraceSample {
  double seconds = 0;  // since it began
  uint64_t read_bytes = 0, written_bytes = 0, resident_bytes = 0;
};

struct MergePage {
  MergeResult result;
  std::string recipe_path, recipe_text;
  const merge::Method* method = nullptr;
  std::vector<merge::RecipeCheckpoint::ParentInfo> parents;
  std::vector<merge::TensorDistances> distances;  // of the tensors that were measured
  // Tensors that were not: carried over as they are, or finished in an earlier run.
  uint64_t num_carried = 0, num_resumed = 0;
  bool has_run = false;  // plan, pass_seconds, samples; all may be finished already
  stream::Plan plan;
  double pass_seconds = 0;
  std::vector<TraceSample> samples;
};

std::string HtmlOf(const MergePage& page);

}  // namespace sluice::report
