// How two models differ, as a part of the page of `verify --report`: in words, where by layer and kind of tensor, in
// how many directions, by how much, and which tensors most. Pure: the same input gives the same bytes.
#pragma once

#include <string>
#include <vector>

#include "verify/verification.h"

namespace sluice::report {

// What a reader must not miss: sides that are dequantised, and what the changes are as a whole (a merged LoRA).
std::string HtmlOfFindings(const verify::Verification& result);

// `tensors`: the names of all that both sides have in one shape. Empty where nothing differs, or not every byte was
// read.
std::string HtmlOfChanges(const verify::Verification& result, const std::vector<std::string>& tensors);

// What the classes look like, for <style>.
std::string ChangeStyle();

}  // namespace sluice::report
