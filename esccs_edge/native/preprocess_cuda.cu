#include "pixel.h"
