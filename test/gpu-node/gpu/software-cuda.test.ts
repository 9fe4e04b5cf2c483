/** Tests the CUDA driver of the GPU addon on the software CUDA driver, which runs its kernels on the processor. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { GPU_CRATE } from '../../../gpu-node/gpu/source-hash.mjs'
import { gpu, skipWithoutGpu } from '../../support/engine/gpu.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'

const SOFTWARE_CUDA = join(GPU_CRATE, 'tests', 'software-cuda')

if (!('addon' in gpu)) skipWithoutGpu('CUDA')

test.runIf('addon' in gpu)(
  'the CUDA driver passes the tests of devices',
  { timeout: 900_000 },
  ({ skip }) => {
    if (!hasCompiler()) skip('there is no g++ here, which builds the software driver')
    const folder = temporaryDir('copal-software-cuda')
    const run = (cwd: string, command: string, args: readonly string[]) => {
      // Here the software driver is the machine's driver.
      const env = { ...process.env, LD_LIBRARY_PATH: folder, COPAL_CACHE: join(folder, 'cache') }
      const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8', env })
      expect(status, `${stdout}\n${stderr}`).toBe(0)
      return stdout
    }
    run(SOFTWARE_CUDA, './self-test.sh', [folder])
    // These take most of the time there, and show no more of the kernels than the others.
    const skipped = [
      'benchmark',
      'results_repeat_to_the_bit',
      'small_buffers_and_small_pieces',
      'a_long_sequence',
    ]
    const options = ['--profile', 'bench', '--locked', '--no-default-features', '--quiet']
    const output = run(GPU_CRATE, 'cargo', [
      'test',
      ...options,
      '--',
      ...skipped.flatMap((name) => ['--skip', name]),
    ])
    expect(output).toMatch(/test result: ok\. [1-9]/)
  },
)

function hasCompiler(): boolean {
  return process.platform === 'linux' && spawnSync('g++', ['--version']).status === 0
}
