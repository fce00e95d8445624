#include "checkpoint/stored_checkpoint.h"

#include <algorithm>

#include "base/check.h"

namespace sluice::checkpoint {

StoredCheckpoint::StoredCheckpoint(std::string ref) {
  ref_ = std::move(ref);
  kind_ = "safetensors";
}

uint32_t StoredCheckpoint::AddFile(std::string name, std::shared_ptr<const io::ByteSource> source) {
  files_.push_back({std::move(name), source->name(), source->size_bytes()});
  sources_.push_back(std::move(source));
  return static_cast<uint32_t>(sources_.size() - 1);
}

void StoredCheckpoint::AddTensor(uint32_t file, const formats::StoredTensor& tensor) {
  SLUICE_CHECK(file < sources_.size());
  tensors_.Add(tensor.name, tensor.encoding, tensor.shape, tensor.num_elements);
  places_.push_back({tensor.begin, file});
}

void StoredCheckpoint::AddProblem(Problem::Severity severity, std::string file, std::string tensor,
                                  std::string message) {
  problems_.push_back({severity, std::move(file), std::move(tensor), std::move(message)});
}

void StoredCheckpoint::Finish() {
  std::vector<Place> sorted;
  sorted.reserve(places_.size());
  for (const uint32_t i : tensors_.Sort()) sorted.push_back(places_[i]);
  places_ = std::move(sorted);
  std::sort(side_files_.begin(), side_files_.end(),
            [](const SideFile& a, const SideFile& b) { return a.name < b.name; });
}

const graph::Node* StoredCheckpoint::MakeNode(size_t i, graph::Graph* graph) const {
  const Place& place = places_[i];
  const TensorInfo tensor = tensors_[i];
  return graph->AddStored(sources_[place.file], place.offset, tensor.encoding, tensor.num_elements);
}

}  // namespace sluice::checkpoint
