import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { isErrno } from '../../../gpu-node/src/platform/errno.ts'
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

/** The levels of x86, and their vectors. */
const VECTORS = { avx512: '%zmm', avx2: '%ymm' }

/** Functions whose loops the compiler vectorises; `*` is a level. */
const VECTORISED = [
  'kernels.*.encode',
  ...['norm', 'gate', 'log_sum_exp', 'weigh', 'attend'].map((name) => `engine.vector.*.${name}`),
  'storage.packing.*.fill',
  'exchange.*.refine_whole',
  'rounding.*.round_rows',
]

/**
 * What rounds a single input, to an integer or to bf16. Arrays that were iterated by value had such loops beside those in vectors
 * once, and encoding took twice as long, with equal results.
 */
const SCALAR_ENCODING = /\sv?addss\s|\b0x7fff\b/

test('the loops of each level compute in its whole vectors, and encoding rounds no input alone', async ({
  skip,
}) => {
  skip(built === 'no-cargo', 'there is no cargo here, which builds the addon')
  skip(process.arch !== 'x64', 'the vectors of other processors have other names')
  const code = (await disassemble(addonPath())) ?? skip('there is no objdump here')
  const instructionsOf = (path: string) => {
    const symbol = path.split('.').map((part) => `${part.length}${part}`)
    return new RegExp(`<_ZN12copal_native${symbol.join('')}17h\\w+>:\\n.*?\\n\\n`, 's').exec(code)?.[0] ?? ''
  }
  for (const [level, vector] of Object.entries(VECTORS)) {
    const paths = VECTORISED.map((path) => path.replace('*', level))
    const inVectors = new RegExp(`\\sv(add|sub|mul|fn?m)\\w*p[sd]\\s.*${vector}`)
    expect(paths.filter((path) => !inVectors.test(instructionsOf(path)))).toEqual([])
    expect(instructionsOf(`kernels.${level}.encode`)).not.toMatch(SCALAR_ENCODING)
  }
})

/** Returns the machine code of a library as text; null without objdump. */
async function disassemble(path: string): Promise<string | null> {
  const options = { maxBuffer: 1 << 30 }
  try {
    return (await promisify(execFile)('objdump', ['-d', '--no-show-raw-insn', path], options)).stdout
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return null
    throw error
  }
}
