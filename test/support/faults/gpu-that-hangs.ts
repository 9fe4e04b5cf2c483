/**
 * A module of the GPU addon for processes of nodes: one call, that HANGING_CALL names, waits in a thread of the pool for ever, as for
 * a driver that hangs. No test machine has such a driver.
 */
import { open } from 'node:fs/promises'
import type { GpuAddon, GpuDevice } from '../../../gpu-node/gpu/addon.d.ts'

export { GpuUnavailableError, isGpuFault } from '../../../gpu-node/src/platform/gpu-addon.ts'

const CARD: GpuDevice = {
  name: 'Card',
  api: 'cuda',
  kind: 'discrete',
  driver: '1',
  maxBindingBytes: 2 ** 31,
  memoryBytes: 1e9,
}

async function call<T>(name: keyof GpuAddon, result: T): Promise<T> {
  if (process.env['HANGING_CALL'] === name) {
    process.stderr.write(`${name} hangs\n`)
    // No process writes to this pipe.
    await open(process.env['HANGING_PIPE'] ?? '')
  }
  return result
}

export function loadGpu(): Pick<GpuAddon, 'devices' | 'selectDevice' | 'openEngine'> {
  return {
    devices: () => call('devices', [CARD]),
    selectDevice: () => call('selectDevice', { device: CARD, passedOver: [] }),
    openEngine: async () => {
      await call('openEngine', undefined)
      throw new Error('there is no device')
    },
  }
}
