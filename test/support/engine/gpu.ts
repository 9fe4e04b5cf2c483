import { expect, test } from 'vitest'
import { buildGpu } from '../../../infra/local/build-gpu.mjs'
import { hasVulkanDriver } from '../../../infra/local/test/vulkan-driver.ts'
import type { GpuAddon } from '../../../gpu-node/gpu/addon.d.ts'
import { loadGpu } from '../../../gpu-node/src/platform/gpu-addon.ts'
import { loadNativeIfThere } from '../../../gpu-node/src/platform/native-addon.ts'
import { createGpuBackend } from '../../../gpu-node/src/serving/backends/gpu/gpu-backend.ts'
import type { TestedBackend } from './backends.ts'

// Mesa's layer that chooses devices prints a line for each instance where there is no desktop.
process.env['NODEVICE_SELECT'] = '1'

/** The GPU addon with a device to run on, or the reason why there is none. Software drivers count. */
export const gpu: { addon: GpuAddon } | { missing: string } = await findGpu()

async function findGpu(): Promise<typeof gpu> {
  if (process.env['TEST_GPU'] === undefined && !hasVulkanDriver(process.env))
    return { missing: 'there is no Vulkan driver here (Debian: mesa-vulkan-drivers, libvulkan1)' }
  if ((await buildGpu((line) => process.stderr.write(`${line}\n`))) === 'no-cargo')
    return { missing: 'there is no cargo here, which builds the addon' }
  const addon = loadGpu()
  return (await addon.devices()).length > 0 ? { addon } : { missing: 'the Vulkan driver here has no device' }
}

/** A part of the interface and name of the device that the tests run on; the best one by default. */
export const GPU_DEVICE = process.env['COPAL_GPU']

/** Tolerances against f64 arithmetic. As for the sparse engine: the tiny model's logits are far from flat. */
const TOLERANCES = { bf16: 0.15, int8: 0.6, int4: 4 } as const

/** The GPU backend in bf16, and by `npm run test:gpu` in the other precisions; empty where it cannot run. */
export const GPU_BACKENDS: readonly TestedBackend[] = 'addon' in gpu ? backendsOf(gpu.addon) : []

function backendsOf(addon: GpuAddon): TestedBackend[] {
  const precisions =
    process.env['TEST_GPU'] === undefined ? (['bf16'] as const) : (['bf16', 'int8', 'int4'] as const)
  const options = {
    addon,
    native: loadNativeIfThere(),
    device: GPU_DEVICE,
    kvTokens: 4096,
    ownTokens: 8192,
  }
  return precisions.map((precision) => ({
    name: `gpu-${precision}`,
    create: () => createGpuBackend({ ...options, precision, headPrecision: precision }),
    exactTolerance: TOLERANCES[precision],
    selfTolerance: 0,
  }))
}

/** Adds one skipped test in place of those that need a GPU, with the reason. */
export function skipWithoutGpu(what: string): void {
  if ('addon' in gpu) return
  const { missing } = gpu
  test(`${what}, on a GPU`, ({ skip }) => {
    skip(true, missing)
    expect.unreachable('it is skipped')
  })
}
