import { setTimeout as sleep } from 'node:timers/promises'
import { line } from '../measurement/report.ts'
import type { Contender } from './contenders.ts'
import { openLoad } from './load.ts'
import { usageOf } from './processes.ts'

const PARTS = 10
/** Of the requests, one of so many is a stream. */
const STREAMS = 10
/** Receipts are settled, and what is dead is collected, as far as it is by itself. */
const REST_MS = 2_000

/**
 * Sends many requests to one gateway and tells the memory of its processes after each tenth of them.
 */
export async function watchMemory(
  gateway: Contender,
  requests: number,
  connections: number,
  print: (line: string) => void,
): Promise<void> {
  print(`\nmemory of ${gateway.name} over ${requests} requests, one in ${STREAMS} a stream`)
  const json = openLoad(gateway.request(false), connections)
  const streams = openLoad(gateway.request(true), connections)
  const tell = (sent: number) => {
    const bytes = usageOf(gateway.pids)?.residentBytes
    print(
      line(`after ${sent}`, bytes === undefined ? 'not known here' : `${(bytes / 2 ** 20).toFixed(0)} MiB`),
    )
  }
  try {
    tell(0)
    for (let part = 1; part <= PARTS; part += 1) {
      const size = Math.round((requests * part) / PARTS) - Math.round((requests * (part - 1)) / PARTS)
      const streamed = Math.round(size / STREAMS)
      const samples = [await json.count(size - streamed), await streams.count(streamed)]
      const failed = samples.find(({ failure }) => failure !== undefined)
      if (failed) throw new Error(`a request failed: ${failed.failure}`)
      await sleep(REST_MS)
      tell(Math.round((requests * part) / PARTS))
    }
  } finally {
    await Promise.all([json.close(), streams.close()])
  }
}
