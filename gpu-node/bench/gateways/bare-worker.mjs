/**
 * Passes requests on and does nothing else: what the runtime itself costs. With `ASK` it asks a Durable Object first, as
 * a gateway must whose limits hold wherever a request comes in.
 */
import { DurableObject } from 'cloudflare:workers'

export class Counter extends DurableObject {
  #count = 0

  add() {
    this.#count += 1
    return this.#count
  }
}

export default {
  async fetch(request, env) {
    if (env.ASK) await env.COUNTER.getByName('one').add()
    return env.NETWORK.fetch(env.UPSTREAM + new URL(request.url).pathname, request)
  },
}
