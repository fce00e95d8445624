#include "verify/inspection.h"

namespace sluice::verify {

Inspection Inspect(const checkpoint::Checkpoint& checkpoint) {
  Inspection inspection;
  inspection.ref = checkpoint.ref();
  inspection.kind = checkpoint.kind();
  const checkpoint::Catalogue& tensors = checkpoint.tensors();
  inspection.tensors = tensors.size();
  inspection.parameters = tensors.total_elements();
  inspection.bytes = tensors.total_bytes();
  for (size_t i = 0; i < tensors.size(); ++i) {
    const checkpoint::TensorInfo tensor = tensors[i];
    EncodingShare& share = inspection.encodings[std::string(tensor.encoding.name())];
    ++share.tensors;
    share.elements += tensor.num_elements;
    share.bytes += tensor.size_bytes();
  }
  if (const checkpoint::ModelConfig* config = checkpoint.config(); config != nullptr) {
    inspection.architecture = config->architecture();
    inspection.parameters_from_config = config->PredictedParameters();
    if (config->TiedEmbeddings() && !tensors.Find("lm_head.weight")) inspection.tied.emplace_back("lm_head.weight");
  }
  inspection.files = checkpoint.files();
  for (const checkpoint::SideFile& file : checkpoint.side_files()) inspection.side_files.push_back(file.name);
  inspection.problems = checkpoint.problems();
  return inspection;
}

}  // namespace sluice::verify
