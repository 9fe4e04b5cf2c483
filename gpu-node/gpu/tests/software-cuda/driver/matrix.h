#pragma once

namespace software_cuda {

/// `d += a · b` for a warp, with A of 16 rows and 16 columns, B of 16 rows and 8 columns: `Runtime::multiply`.
void multiply(void *const *products, unsigned lanes);

}  // namespace software_cuda
