// Reads files, or the standard input, and says what is in them.
#include "textstat.h"

#include <fstream>
#include <iostream>
#include <iterator>

static std::string slurp(std::istream& in) {
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

int main(int argc, char** argv) {
  if (argc == 1) {
    std::cout << textstat::report(slurp(std::cin));
    return 0;
  }
  for (int i = 1; i < argc; ++i) {
    std::ifstream in(argv[i], std::ios::binary);
    if (!in) {
      std::cerr << "cannot read " << argv[i] << "\n";
      return 1;
    }
    std::cout << argv[i] << "\n" << textstat::report(slurp(in));
  }
}
