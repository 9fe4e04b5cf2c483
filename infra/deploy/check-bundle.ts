/** Part of `npm run check`: the Worker can be deployed, is small, and starts in time. */
import { measureBundle } from './bundle.ts'

/** Cloudflare takes 3 MB of a free account and 10 MB of a paid one; more than this is a mistake of ours. */
const MOST_GZIP_BYTES = 1024 * 1024
/** Cloudflare refuses a Worker that needs more processor time than this before its first request. */
const MOST_STARTUP_MS = 1000

const { bytes, gzipBytes, startupMs } = await measureBundle()
const kib = (count: number) => `${(count / 1024).toFixed(0)} KiB`
const said =
  `${kib(bytes)}, compressed ${kib(gzipBytes)} of ${kib(MOST_GZIP_BYTES)}; ` +
  `ready after ${startupMs.toFixed(0)} ms of processor time of ${MOST_STARTUP_MS}`
process.stdout.write(`   Worker: ${said}\n`)
if (gzipBytes > MOST_GZIP_BYTES || startupMs > MOST_STARTUP_MS) process.exitCode = 1
