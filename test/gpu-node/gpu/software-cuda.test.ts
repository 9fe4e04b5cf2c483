/** Tests the CUDA driver of the GPU addon on the software CUDA driver, which runs its kernels on the processor. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import { GPU_CRATE } from '../../../gpu-node/gpu/source-hash.mjs'
import { gpu, skipWithoutGpu } from '../../support/engine/gpu.ts'
import { RUST_TESTS } from '../../support/harness/rust-tests.ts'

/** What two weight sets, keys, values and activations of the program's model, and one calibration take, but not three sets. */
const DEVICE_BYTES = 21_220_000
const SOFTWARE_CUDA = join(GPU_CRATE, 'tests', 'software-cuda')
/** The shortest tests that run each kernel. */
const EVERY_KERNEL = [
  'programs::tests',
  'engine::a_step_equals',
  'calibration::values_that_are_not_finite',
  'exchange::equal_candidates',
]
/** What is searched for by `npm run test:gpu` alone: it takes most of a minute. */
const RACES = process.env['TEST_GPU'] === undefined ? [] : ['race']
const PROGRAM = fileURLToPath(new URL('../../support/engine/software-cuda-node.ts', import.meta.url))

if (!('addon' in gpu)) skipWithoutGpu('CUDA')

describe.runIf('addon' in gpu)('on software CUDA', () => {
  const folder = mkdtempSync(join(tmpdir(), 'copal-software-cuda-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  /** Runs a program for which the software driver is the machine's driver. */
  const run = (cwd: string, command: string, args: readonly string[], settings: NodeJS.ProcessEnv = {}) => {
    const env = { ...process.env, LD_LIBRARY_PATH: folder, COPAL_CACHE: join(folder, 'cache'), ...settings }
    const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8', env })
    expect(status, `${stdout}\n${stderr}`).toBe(0)
    return stdout
  }

  test('the CUDA driver passes the tests of devices', { timeout: 900_000 }, ({ skip }) => {
    if (!hasCompiler()) skip('there is no g++ here, which builds the software driver')
    run(SOFTWARE_CUDA, './self-test.sh', [folder])
    // These take most of the time there, and show no more of the kernels than the others.
    const skipped = [
      'benchmark',
      'results_repeat_to_the_bit',
      'small_buffers_and_small_pieces',
      'a_long_sequence',
    ]
    const names = skipped.flatMap((name) => ['--skip', name])
    const output = run(GPU_CRATE, 'cargo', [...RUST_TESTS, '--', ...names])
    expect(output).toMatch(/test result: ok\. [1-9]/)
  })

  test.for(RACES)('no kernel has a %s', { timeout: 900_000 }, (_, { skip }) => {
    if (!hasCompiler()) skip('there is no g++ here, which builds the software driver')
    run(SOFTWARE_CUDA, './build.sh', [folder])
    // Kernels from the cache would be those that search none.
    const settings = { SOFTWARE_CUDA_RACES: '1', COPAL_CACHE: join(folder, 'cache-of-races') }
    const output = run(GPU_CRATE, 'cargo', [...RUST_TESTS, '--', ...EVERY_KERNEL], settings)
    expect(output).toMatch(/test result: ok\. [1-9]/)
  })

  test('a process ends cleanly while kernels are compiled', { timeout: 300_000 }, ({ skip }) => {
    if (!hasCompiler()) skip('there is no g++ here, which builds the software driver')
    run(SOFTWARE_CUDA, './build.sh', [folder])
    const settings = { COPAL_CACHE: join(folder, 'another-cache') }
    expect(run(GPU_CRATE, process.execPath, [PROGRAM, 'exit'], settings)).toBe('')
  })

  test(
    'where the kernels do not compile, the next driver is selected, unless CUDA was named',
    { timeout: 300_000 },
    ({ skip }) => {
      if (!hasCompiler()) skip('there is no g++ here, which builds the software driver')
      run(SOFTWARE_CUDA, './build.sh', [folder])
      // Without a path there is no g++, which compiles for software CUDA.
      const settings = { COPAL_CACHE: join(folder, 'no-cache'), PATH: folder }
      const output = run(GPU_CRATE, process.execPath, [PROGRAM, 'select'], settings)
      const { any, cuda } = JSON.parse(output) as { any: unknown; cuda: unknown }
      const reason: unknown = expect.stringContaining('NVRTC 12.4 cannot compile the kernels')
      expect(any).toMatchObject({
        device: { api: 'vulkan' },
        passedOver: [{ device: { api: 'cuda' }, reason }],
      })
      expect(cuda).toEqual({ code: 'DeviceUnavailable', message: reason })
    },
  )

  test(
    'a node frees what it closes, recovers from an error that stays, and makes room for a calibration',
    {
      timeout: 900_000,
    },
    ({ skip }) => {
      if (!hasCompiler()) skip('there is no g++ here, which builds the software driver')
      run(SOFTWARE_CUDA, './build.sh', [folder])
      const output = run(GPU_CRATE, process.execPath, [PROGRAM], {
        SOFTWARE_CUDA_BYTES: String(DEVICE_BYTES),
        SOFTWARE_CUDA_FAIL: join(folder, 'fail'),
      })
      const sets = ['0 ready', '1 ready', '2 ready']
      expect(JSON.parse(output)).toMatchObject({
        // Two calibrators do not fit at once. A closed one leaves its memory, and the last device its streams but that of the context.
        closing: { second: 'OutOfMemory', third: 'calibrated', streams: 1, still: ['cuda', 'cuda'] },
        reasons: sets.map(() => expect.stringContaining('CUDA_ERROR_LAUNCH_FAILED') as string),
        recovery: {
          inFlight: ['node_failed', 'The weights of mask version 1 failed while they ran. Try again.'],
          held: sets,
          isSame: true,
        },
        memory: {
          without: 'OutOfMemory',
          during: ['1 ready', '2 ready'],
          withReserve: 'calibrated',
          after: sets,
          tooMuch: true,
        },
      })
    },
  )
})

function hasCompiler(): boolean {
  return process.platform === 'linux' && spawnSync('g++', ['--version']).status === 0
}
