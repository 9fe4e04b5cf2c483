import { chmod, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { createDatasetStore } from '../../../../gpu-node/src/serving/control/dataset-store.ts'
import { createGatewayClient } from '../../../../gpu-node/src/serving/control/gateway-client.ts'
import { takeNodeLock } from '../../../../gpu-node/src/serving/control/node-lock.ts'
import { startGatewayDouble } from '../../../support/doubles/gateway-double.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

const modeOf = async (path: string) => ((await stat(path)).mode & 0o777).toString(8)

test.skipIf(process.platform === 'win32')(
  'texts are readable for the user of the node alone, also in a home that others may read',
  async () => {
    const gateway = await startGatewayDouble()
    onTestFinished(() => gateway.close())
    const home = temporaryDir()
    await chmod(home, 0o755)
    const client = createGatewayClient({ baseUrl: gateway.url, nodeId: 'node-1', secret: gateway.secret })
    const store = createDatasetStore({ home, gateway: client })
    const dataset = gateway.addDataset('news', ['a text of a client'])
    for (let update = 0; update < 2; update += 1) {
      await store.ensure(dataset)
      expect(await modeOf(join(home, 'datasets'))).toBe('700')
      await store.clear()
    }
  },
)

test('a dataset that is longer than the gateway says is not fetched to its end, and leaves nothing on disk', async () => {
  const gateway = await startGatewayDouble()
  onTestFinished(() => gateway.close())
  const home = temporaryDir()
  const client = createGatewayClient({ baseUrl: gateway.url, nodeId: 'node-1', secret: gateway.secret })
  const store = createDatasetStore({ home, gateway: client })
  const { sha256, bytes = 0 } = gateway.addDataset('news', ['a text of a client'])
  await expect(store.ensure({ sha256, bytes: bytes - 1 })).rejects.toMatchObject({
    code: 'service_unavailable',
    message: expect.stringContaining(`more than the ${bytes - 1} bytes`) as string,
  })
  expect(await readdir(join(home, 'datasets'))).toEqual([])
  // Older gateways give no size.
  for (const dataset of [{ sha256, bytes }, { sha256 }])
    expect((await stat(await store.ensure(dataset))).size).toBe(bytes)
})

test.skipIf(process.platform === 'win32')('a home that a node makes is its own', async () => {
  const home = join(temporaryDir(), 'home')
  const lock = takeNodeLock(home)
  onTestFinished(() => lock.release())
  expect(await modeOf(home)).toBe('700')
})
