/** Tests the CUDA driver of the GPU addon on the software CUDA driver, which runs its kernels on the processor. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { GPU_CRATE } from '../../../gpu-node/gpu/source-hash.mjs'
import { gpu, skipWithoutGpu } from '../../support/engine/gpu.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'

const SOFTWARE_CUDA = join(GPU_CRATE, 'tests', 'software-cuda')
const ROOT = join(import.meta.dirname, '..', '..', '..')
const VITEST = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs')

if (!('addon' in gpu)) skipWithoutGpu('CUDA')
else if (!hasCompiler()) skipWithoutCompiler()
else {
  test('the CUDA driver passes the tests of devices', { timeout: 900_000 }, () => {
    const folder = temporaryDir('copal-software-cuda')
    /** Runs a command where the software driver is the machine's driver. */
    const run = (cwd: string, command: string, args: readonly string[]) => {
      const env = { ...process.env, LD_LIBRARY_PATH: folder, COPAL_CACHE: join(folder, 'cache'), TEST_GPU: '1' }
      const { status, stdout, stderr } = spawnSync(command, args, {
        cwd,
        encoding: 'utf8',
        env,
        maxBuffer: 2 ** 26,
      })
      expect(status, `${stdout}\n${stderr}`).toBe(0)
      return stdout
    }
    run(SOFTWARE_CUDA, './self-test.sh', [folder])

    const args = ['test', '--profile', 'bench', '--locked', '--no-default-features', '--quiet']
    expect(run(GPU_CRATE, 'cargo', args)).toMatch(/test result: ok\. [1-9]/)

    const vitest = [VITEST, 'run', '--config', join('test', 'gpu', 'vitest.config.ts')]
    const backends = join('test', 'gpu-node', 'serving', 'backends')
    // In all three precisions.
    const contract = [join(backends, 'contract.test.ts'), '-t', '^gpu-']
    for (const files of [contract, [join(backends, 'gpu', 'gpu-backend.test.ts')]])
      expect(run(ROOT, process.execPath, [...vitest, ...files])).toMatch(/Tests +[1-9]\d* passed/)
  })
}

function hasCompiler(): boolean {
  return process.platform === 'linux' && spawnSync('g++', ['--version']).status === 0
}

function skipWithoutCompiler(): void {
  test('CUDA, on a software driver', ({ skip }) => {
    skip(true, 'there is no g++ here, which builds the software driver')
    expect.unreachable('it is skipped')
  })
}
