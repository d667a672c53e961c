#pragma once

#include <nanobind/nanobind.h>

// Adds `gather` to the module.
void define_gather(nanobind::module_ &m);
