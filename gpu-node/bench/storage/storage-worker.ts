import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { convertV4MiniflareOptions, Miniflare } from 'miniflare'
import { applyMigrations } from '../gateways/apply-migrations.ts'
import { childrenOf, usageOf } from '../gateways/processes.ts'
import { runWrangler } from '../../../infra/local/toolchain/run-wrangler.ts'

const COMPATIBILITY_DATE = '2026-11-01'

/** The Worker: the gateway's own functions on receipts, by path. */
const entryOf = (root: string) => `
import { openDatabase } from '${root}/gateway/src/storage/db/open-database.ts'
import { insertReceipts } from '${root}/gateway/src/storage/db/queries/receipt-queries.ts'
import { deleteOldReceipts } from '${root}/gateway/src/storage/retention.ts'

export default {
  async fetch(request, env) {
    const db = openDatabase(env.DB)
    const body = await request.json()
    if (new URL(request.url).pathname === '/insert')
      return Response.json(await insertReceipts(db, 'node-1', body.receipts, 'node', body.nowMs))
    await deleteOldReceipts({
      db, nowMs: () => body.nowMs, receiptDays: body.days, maxReceipts: 0, calls: { left: Infinity }, policy: { totalMs: 0 },
    })
    return Response.json(0)
  },
}
`

/** The storage of receipts of a checkout, in workerd's D1 with a file. */
export interface ReceiptStorage {
  /** Calls one of the functions of the Worker; returns the elapsed milliseconds. */
  call(path: '/insert' | '/delete', body: object): Promise<number>
  /** Processor time that it has used so far, milliseconds; NaN where it is unknown. */
  processorMs(): number
  /** Runs a statement, and returns its only number. */
  number(query: string, ...values: (number | string)[]): Promise<number>
  stop(): Promise<void>
}

/**
 * Builds and starts the storage of a checkout with its migrations.
 *
 * @param dir folder for its bundle and database
 */
export async function startReceiptStorage(root: string, dir: string): Promise<ReceiptStorage> {
  mkdirSync(dir, { recursive: true })
  writeFileSync(join(dir, 'entry.ts'), entryOf(root))
  writeFileSync(
    join(dir, 'wrangler.toml'),
    `name = "storage"\nmain = "entry.ts"\ncompatibility_date = "${COMPATIBILITY_DATE}"\n`,
  )
  const bundle = join(dir, 'bundle')
  const config = ['--config', join(dir, 'wrangler.toml')]
  const build = await runWrangler(['deploy', '--dry-run', '--outdir', bundle, ...config], {
    terminal: false,
    root,
  })
  if (build.exitCode !== 0) throw new Error(`The storage of ${root} cannot be bundled:\n${build.output}`)
  const others = new Set(childrenOf(process.pid))
  const worker = new Miniflare(
    convertV4MiniflareOptions({
      name: 'storage',
      compatibilityDate: COMPATIBILITY_DATE,
      modules: [
        { type: 'ESModule', path: 'entry.js', contents: readFileSync(join(bundle, 'entry.js'), 'utf8') },
      ],
      d1Databases: ['DB'],
      resourcePersistencePath: join(dir, 'state'),
    }),
  )
  const database = await applyMigrations(worker, root)
  const pids = childrenOf(process.pid).filter((pid) => !others.has(pid))
  return {
    processorMs: () => usageOf(pids)?.processorMs ?? Number.NaN,
    async call(path, body) {
      const begun = performance.now()
      const response = await worker.dispatchFetch(`http://storage${path}`, {
        method: 'POST',
        body: JSON.stringify(body),
      })
      if (!response.ok) throw new Error(await response.text())
      await response.text()
      return performance.now() - begun
    },
    async number(query, ...values) {
      const [row] = await database
        .prepare(query)
        .bind(...values)
        .raw()
      return Number(row?.[0])
    },
    stop: () => worker.dispose(),
  }
}
