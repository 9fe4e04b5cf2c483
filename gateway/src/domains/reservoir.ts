import { DurableObject } from 'cloudflare:workers'
import type { Bindings } from '../deps.ts'

/** Keeps one domain's samples. */
export class Reservoir extends DurableObject<Bindings> {}
