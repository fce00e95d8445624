// For tests: runs something at every instruction set that this processor and this build have.
#pragma once

#include "kernels/simd.h"  // first: it says which targets the kernels are built for

#include <gtest/gtest.h>
#include <hwy/highway.h>

namespace sluice::kernels {

template <class Body>
void ForEachTarget(const Body& body) {
  hwy::SetSupportedTargetsForTest(0);
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(target);
    body();
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().DeInit();
    if (testing::Test::HasFatalFailure()) return;
  }
}

}  // namespace sluice::kernels
