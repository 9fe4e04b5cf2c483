import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { addonPath } from '../../../gpu-node/src/platform/native-addon.ts'
import { buildNative } from '../../../infra/local/build-native.mjs'

const built = await buildNative((line) => process.stderr.write(`${line}\n`))

test('the integer products of AVX-512 call no helper', async ({ skip }) => {
  skip(built === 'no-cargo', 'there is no cargo here, which builds the addon')
  skip(process.arch !== 'x64', 'this processor has no AVX-512')
  const addon = await readFile(addonPath(), 'latin1')
  // A helper that is called for each step keeps its sums in memory: prompts in int8 took 1.7 times as long once, with equal
  // results.
  const functionsOf = (module: string) => {
    const prefix = `7kernels6avx512${module.length}${module}`
    return [...addon.matchAll(new RegExp(`${prefix}\\d+([a-z_]\\w*?)17h`, 'g'))].map(([, name]) => name)
  }
  expect(new Set(functionsOf('int8'))).toEqual(
    new Set(['dense', 'dense_vnni', 'sparse', 'sparse_vnni', 'sparse_vbmi2']),
  )
  expect(functionsOf('integers')).toEqual([])
})
