// method_pages FOLDER: writes docs/methods/NAME.md for every merge method from its metadata.
#include <cstdio>
#include <fstream>
#include <string>

#include "merge/method.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: method_pages FOLDER\n");
    return 2;
  }
  for (const sluice::merge::Method* method : sluice::merge::AllMethods()) {
    std::ofstream file(std::string(argv[1]) + "/" + std::string(method->name) + ".md");
    file << sluice::merge::MethodPage(*method);
    if (!file.flush()) {
      std::fprintf(stderr, "%s/%s.md: cannot be written\n", argv[1], std::string(method->name).c_str());
      return 6;
    }
  }
  return 0;
}
