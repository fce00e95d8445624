# Debian packages only; scripts/install-deps.sh installs them. Nothing is downloaded or vendored here.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(CLI11 REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(simdjson REQUIRED)
find_package(tl-expected REQUIRED)
find_package(ICU REQUIRED COMPONENTS uc)
find_package(Eigen3 3.4 REQUIRED NO_MODULE)  # headers alone, as <eigen3/Eigen/QR>: no flag of the compiler for them
pkg_check_modules(hwy REQUIRED IMPORTED_TARGET libhwy)
pkg_check_modules(uring REQUIRED IMPORTED_TARGET liburing)
pkg_check_modules(yaml REQUIRED IMPORTED_TARGET yaml-0.1)
pkg_check_modules(curl REQUIRED libcurl>=7.85)  # its header alone: io/http_client.h loads the library when it is needed

set(SLUICE_DEPENDENCIES
  PkgConfig::hwy PkgConfig::uring PkgConfig::yaml
  simdjson::simdjson nlohmann_json::nlohmann_json CLI11::CLI11 fmt::fmt tl::expected
  OpenSSL::Crypto ICU::uc Threads::Threads ${CMAKE_DL_LIBS})

if(SLUICE_TESTS)
  find_package(GTest REQUIRED)
  pkg_check_modules(httplib REQUIRED IMPORTED_TARGET cpp-httplib)  # servers that tests ask
endif()
