/** Compares the addon's check of masks with that in JavaScript: both reject the same masks with the same messages. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import {
  checkMask,
  decodeMask,
  encodeMask,
  type Mask,
  type MaskLinear,
} from '@copal/shared/mask/mask-codec.ts'
import type { MaskScope } from '@copal/shared/mask/sparsity-pattern.ts'
import { packValues } from '@copal/shared/mask/packed-values.ts'
import { expect, onTestFinished, test } from 'vitest'
import { createSparseBackend } from '../../../../../gpu-node/src/serving/backends/sparse/sparse-backend.ts'
import { maskTarget } from '../../../../../gpu-node/src/model/mask-file/verify-mask.ts'
import { linearShapes } from '../../../../../gpu-node/src/model/config/llama-config.ts'
import type { DenseModel } from '../../../../../gpu-node/src/model/master/dense-model.ts'
import type { Addon } from '../../../../../gpu-node/native/addon.d.ts'
import { addon } from '../../../../support/engine/backends.ts'
import { skipWithoutAddon } from '../../../../support/harness/skip-without-addon.ts'
import { createRandom, normals } from '../../../../support/harness/random.ts'
import { temporaryDir } from '../../../../support/harness/temporary.ts'
import { openTinyModel } from '../../../../support/models/tiny-model.ts'

if (addon) testCheck(addon)
else skipWithoutAddon('the check of a mask')

/** Rows of 60 columns end inside a byte, and groups of 6 and 12 columns cross bytes and words. */
const SHAPE = { hiddenSize: 48, intermediateSize: 60, heads: 3, kvHeads: 1, headDim: 16 }

/** Creates a mask that keeps the first `keep` of every `group` columns. */
function regularMask(model: DenseModel, pattern: string, scope: MaskScope, withValues: boolean): Mask {
  const [keep, group] = pattern.includes(':') ? pattern.split(':').map(Number) : [1, 2]
  const random = createRandom(3)
  const linears = new Map<string, MaskLinear>()
  for (const [name, [rows, cols]] of linearShapes(model.config)) {
    const width = Math.ceil(cols / 8)
    const bits = new Uint8Array(rows * width)
    for (let row = 0; row < rows; row++)
      for (let col = 0; col < cols; col++)
        if (col % group! < keep!) bits[row * width + (col >> 3)]! |= 1 << (col & 7)
    const values = () => packValues(name, bits, normals(random, rows * cols, 0, 0.1), rows, cols)
    linears.set(name, { rows, cols, bits, ...(withValues ? { values: values() } : {}) })
  }
  const meta = { method: 'regular', pattern, scope, patterns: {}, domains: [], parent: null }
  return {
    meta: { ...meta, created: '2026-01-01T00:00:00Z', baseSha256: model.master.baseSha256 },
    linears,
  }
}

/** One kind of damage to one linear. */
function damage({ linears }: Mask, random: () => number): void {
  const below = (count: number) => Math.floor(random() * count)
  const linear = [...linears.values()][below(linears.size)]!
  const { cols, rows, bits, values } = linear
  const width = Math.ceil(cols / 8)
  const kind = below(values ? 5 : 3)
  // After the last column, where a row ends inside a byte.
  if (kind === 0 && cols % 8) bits[(below(rows) + 1) * width - 1]! |= 0x80
  else if (kind < 3) bits[below(rows) * width + below(width - 1)]! ^= 1 << below(8)
  else if (kind === 3) values![below(values!.length)] = random() < 0.5 ? 0x7fc1 : 0xff80
  else linear.values = values!.slice(1 + below(3))
}

function refusalOf(mask: Mask, model: DenseModel): string | undefined {
  try {
    checkMask(mask, maskTarget(model.config, model.master))
  } catch (error) {
    return (error as AppError).message
  }
  return undefined
}

function testCheck(built: Addon): void {
  test.each<[string, MaskScope]>([
    ['0.5', 'row'],
    ['0.5', 'matrix'],
    ['2:4', 'row'],
    ['1:2', 'row'],
    ['3:6', 'row'],
    ['5:12', 'matrix'],
  ])('a damaged mask of %s a %s is rejected as in JavaScript', async (pattern, scope) => {
    const tiny = await openTinyModel(SHAPE)
    onTestFinished(() => tiny.remove())
    const { model } = tiny
    const backend = createSparseBackend({ addon: built, threads: 1 })
    const path = join(temporaryDir(), 'mask.safetensors')
    const load = async (mask: Mask) => {
      await writeFile(path, encodeMask(mask))
      const weights = await backend.load({ model, version: 1, maskPath: path, priority: 'serving' })
      await backend.release(weights)
    }
    for (const withValues of [false, true]) {
      await load(regularMask(model, pattern, scope, withValues))
      const random = createRandom(11)
      for (let i = 0; i < 30; i++) {
        const mask = regularMask(model, pattern, scope, withValues)
        damage(mask, random)
        const expected = refusalOf(decodeMask(encodeMask(mask)), model)
        expect(expected).toBeDefined()
        const refused = (await load(mask).catch((error: unknown) => error)) as AppError
        expect(refused).toBeInstanceOf(AppError)
        expect([refused.code, refused.message]).toEqual(['mask_invalid', expected])
      }
    }
  })
}
