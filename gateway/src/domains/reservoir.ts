// Shell so that the Worker loads until the adaptation engineer writes this file: overwrite it.
import { DurableObject } from 'cloudflare:workers'
import type { Bindings } from '../deps.ts'

export class Reservoir extends DurableObject<Bindings> {}
