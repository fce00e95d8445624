// The kind of a tensor as people speak of it, told by its name: "q", "gate", "norms", "embedding". For tables and
// pictures: a name of no known form is a kind of its own.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sluice::report {

std::string KindOf(std::string_view tensor);
// Where a kind stands among the others: as a layer computes, then what is outside of layers, then unknown ones.
size_t KindOrder(std::string_view kind);

}  // namespace sluice::report
