import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { startLabProcess } from '../../../../gpu-node/lab/run/lab-process.ts'

test('a process that cannot be started fails its calls, and its second error does not end the command', async () => {
  const { execPath } = process
  process.execPath = '/nonexistent/node'
  const model = { spec: '', cacheDir: '', id: 'tiny', baseSha256: '' }
  const lab = startLabProcess({ model, threads: 1 })
  process.execPath = execPath
  await expect(lab.call('churn', { path: '', otherPath: '' })).rejects.toMatchObject({
    code: 'node_failed',
    message: expect.stringContaining('could not be started') as string,
  })
  // The message that was to start it breaks its channel: an error event that no one awaits.
  await sleep(100)
  await lab.close()
})
