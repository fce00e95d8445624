// Scores for simulations of sequential tests: sources of a stated mean, seeded.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace sluice::verify::sequential_test {

// Uniform over [0, 1), 53 bits.
inline double Uniform(std::mt19937_64* words) { return static_cast<double>((*words)() >> 11) * 0x1p-53; }

struct ScoreSource {
  std::string name;
  std::function<double(std::mt19937_64*)> draw;
};

inline ScoreSource EqualScores(double mean) {
  return {"all equal", [=](std::mt19937_64*) { return mean; }};
}
inline ScoreSource UniformScores(double mean) {  // mean <= 0.5
  return {"uniform over [0, 2 mean]", [=](std::mt19937_64* words) { return 2 * mean * Uniform(words); }};
}
inline ScoreSource ZeroOneScores(double mean) {
  return {"0 or 1", [=](std::mt19937_64* words) { return Uniform(words) < mean ? 1.0 : 0.0; }};
}
// U^p has mean 1 / (p + 1): at mean 0.025 half of all scores are below 1e-11, and one in 58 is above 1/2.
inline ScoreSource PowerScores(double mean) {
  return {"heavy-tailed, U^p", [=](std::mt19937_64* words) { return std::pow(Uniform(words), 1 / mean - 1); }};
}
// Pareto of index 1 cut off at 1: s / (s + (1 - s) U), mean s ln(1/s) / (1 - s).
inline ScoreSource ParetoScores(double mean) {
  double low = 1e-12, high = 1 - 1e-12;
  for (int i = 0; i < 200; ++i) {
    const double s = (low + high) / 2;
    (s * std::log(1 / s) / (1 - s) < mean ? low : high) = s;
  }
  const double s = high;  // mean not below the one asked for but by rounding
  return {"heavy-tailed, Pareto 1", [=](std::mt19937_64* words) { return s / (s + (1 - s) * Uniform(words)); }};
}
inline ScoreSource ZeroInflatedScores(double mean) {  // mean <= 0.05
  return {"zero but for 5%", [=](std::mt19937_64* words) { return Uniform(words) < 0.05 ? mean / 0.05 : 0.0; }};
}

}  // namespace sluice::verify::sequential_test
