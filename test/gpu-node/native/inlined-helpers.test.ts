import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { addonPath } from '../../../gpu-node/src/platform/native-addon.ts'
import { buildNative } from '../../../infra/local/build-native.mjs'
import { skipWithoutAddon } from '../../support/harness/skip-without-addon.ts'

const built = await buildNative((line) => process.stderr.write(`${line}\n`))
if (built === 'no-cargo') skipWithoutAddon('the functions of kernels')
else test('the integer products of AVX-512 call no helper', { skip: process.arch !== 'x64' }, testHelpers)

/**
 * A helper that is called for each step keeps its sums in memory: prompts in int8 took 1.7 times as long once, with equal
 * results.
 */
async function testHelpers(): Promise<void> {
  const addon = await readFile(addonPath(), 'latin1')
  const functionsOf = (module: string) => {
    const prefix = `7kernels6avx512${module.length}${module}`
    return [...addon.matchAll(new RegExp(`${prefix}\\d+([a-z_]\\w*?)17h`, 'g'))].map(([, name]) => name)
  }
  expect(new Set(functionsOf('int8'))).toEqual(
    new Set(['dense', 'dense_vnni', 'sparse', 'sparse_vnni', 'sparse_vbmi2']),
  )
  expect(functionsOf('integers')).toEqual([])
}
