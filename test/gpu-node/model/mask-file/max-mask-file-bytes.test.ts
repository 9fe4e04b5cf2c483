import { expect, test } from 'vitest'
import { layOutMask, MAX_MASK_HEADER_BYTES } from '@copal/shared/mask/mask-header.ts'
import { linearShapes } from '../../../../gpu-node/src/model/config/llama-config.ts'
import { maxMaskFileBytes } from '../../../../gpu-node/src/model/mask-file/max-mask-file-bytes.ts'
import { tinyConfig } from '../../../support/models/tiny-llama.ts'

test('a file that stores every value of every linear is no larger, and smaller by less than the header may be', () => {
  const config = tinyConfig()
  const linears = new Map(
    [...linearShapes(config)].map(([name, [rows, cols]]) => [name, { rows, cols, kept: rows * cols }]),
  )
  const meta = {
    method: 'continual-sparsegpt',
    pattern: '0.5',
    scope: 'row' as const,
    patterns: {},
    domains: ['legal'],
    parent: null,
    created: '2026-11-25T00:00:00.000Z',
    baseSha256: 'ab'.repeat(32),
  }
  const { fileBytes } = layOutMask('weights', meta, linears)
  expect(fileBytes).toBeLessThanOrEqual(maxMaskFileBytes(config))
  expect(fileBytes).toBeGreaterThan(maxMaskFileBytes(config) - MAX_MASK_HEADER_BYTES)
})
