import { expect, test } from 'vitest'
import { createMomentProduct } from '../../../../gpu-node/src/pruning/refinement/moment-product.ts'
import { createRandom, normals } from '../../../support/harness/random.ts'

const shapes = [
  [1, 3],
  [96, 160],
  [61, 37],
  // Fewer columns than rows, and more rows than fit in one run.
  [700, 192],
] as const

test.each(shapes)(
  '[%i, %i]: the product is E H and does not depend on the number of threads',
  async (rows, cols) => {
    const random = createRandom(rows)
    const errors = Float64Array.from(normals(random, rows * cols, 0, 1))
    const moment = new Float64Array(cols * cols)
    for (let a = 0; a < cols; a++) {
      for (let b = 0; b <= a; b++) moment[a * cols + b] = moment[b * cols + a] = random()
    }
    const products: Float64Array[] = []
    for (const threads of [1, 2, 3, 8]) {
      const product = await createMomentProduct(threads)
      const result = new Float64Array(rows * cols)
      await product.multiply(errors, moment, result, [rows, cols])
      // In place, as exchange uses it.
      const inPlace = Float64Array.from(errors)
      await product.multiply(inPlace, moment, inPlace, [rows, cols])
      expect(inPlace).toEqual(result)
      products.push(result)
      await product.release()
    }
    for (const product of products) expect(product).toEqual(products[0])
    for (const row of new Set([0, rows >> 1, rows - 1])) {
      for (let col = 0; col < cols; col++) {
        let exact = 0
        for (let k = 0; k < cols; k++) exact += errors[row * cols + k]! * moment[k * cols + col]!
        expect(Math.abs(products[0]![row * cols + col]! - exact)).toBeLessThan(1e-11)
      }
    }
  },
)
