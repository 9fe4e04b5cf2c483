/**
 * `npm run test:gpu [-- vitest arguments]`: builds the GPU addon, names the devices, and runs every test that needs one on the best,
 * or on the one that COPAL_GPU names.
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { loadGpu } from '../../../gpu-node/src/platform/gpu-addon.ts'
import { findDevice } from '../../../gpu-node/src/serving/backends/backend-resources.ts'
import { buildGpu } from '../build-gpu.mjs'
import { buildNative } from '../build-native.mjs'
import { exitWith, ROOT, SetupError } from '../toolchain/toolchain.mjs'

// Mesa's layer that chooses devices prints lines where there is no desktop.
process.env['NODEVICE_SELECT'] = '1'

try {
  process.exitCode = await testGpu()
} catch (error) {
  exitWith(error)
}
if (process.connected) process.disconnect()

/** Returns the exit code of the tests. @throws SetupError where there is nothing to test */
async function testGpu(): Promise<number> {
  const print = (line: string) => void process.stderr.write(`${line}\n`)
  if ((await buildNative(print)) === 'no-cargo' || (await buildGpu(print)) === 'no-cargo')
    throw new SetupError('The tests need both addons. Install cargo (https://rustup.rs) and try again.')
  const devices = await loadGpu().devices()
  if (devices.length === 0)
    throw new SetupError(
      "No GPU is found, and no software driver. Install the driver of the GPU, or for a test on the processor Debian's " +
        'packages mesa-vulkan-drivers and libvulkan1.',
    )
  const tested = findDevice(devices, process.env['COPAL_GPU'] ?? null)
  for (const device of devices)
    print(`${device === tested ? 'Testing' : 'Found'} ${device.name} (${device.driver}, ${device.api})`)
  const vitest = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs')
  const config = join('test', 'gpu', 'vitest.config.ts')
  const { status } = spawnSync(
    process.execPath,
    [vitest, 'run', '--config', config, ...process.argv.slice(2)],
    {
      cwd: ROOT,
      stdio: 'inherit',
      env: { ...process.env, TEST_GPU: '1' },
    },
  )
  return status ?? 1
}
