// Feeds the service at its own pace: a few requests at a time, fewer when it is busy, none while it says "come back".

const FIRST = 1; // so that the first caption comes at once
const MOST = 6; // as many as a browser sends at once over HTTP/1.1
const CAUTION = 0.02; // of a request, that each answer gives back to what a refusal has taken
const LONG_QUEUE_MS = 250;
const MOST_TRIES = 40;
const MOST_UNREACHABLE = 5;

export class Feeder {
  #waiting = [];
  #busy = 0;
  #room = FIRST;
  #most = MOST;
  #heldUntil = 0;
  #timer = 0;
  #send;
  #end;

  // `send(job)` gives an outcome of service.js; `end(job, outcome)` hears of the last one of each job.
  constructor(send, end) {
    this.#send = send;
    this.#end = end;
  }

  add(jobs) {
    for (const job of jobs) Object.assign(job, { tries: 0, unreachable: 0 });
    this.#waiting.push(...jobs);
    this.#pump();
  }

  drop(unwanted) {
    this.#waiting = this.#waiting.filter((job) => !unwanted(job));
  }

  hold(seconds) {
    this.#heldUntil = Math.max(this.#heldUntil, performance.now() + 1000 * seconds);
    clearTimeout(this.#timer);
    if (!Number.isFinite(this.#heldUntil)) return;
    this.#timer = setTimeout(() => this.release(), this.#heldUntil - performance.now()); // may be a little early
  }

  release() {
    this.#heldUntil = 0;
    this.#pump();
  }

  #pump() {
    while (this.#waiting.length && this.#busy < Math.floor(this.#room) && performance.now() >= this.#heldUntil) {
      this.#run(this.#waiting.shift());
    }
  }

  async #run(job) {
    this.#busy += 1;
    const outcome = await this.#send(job);
    this.#busy -= 1;
    this.#adapt(outcome);
    if (this.#again(job, outcome)) this.#waiting.unshift(job);
    else this.#end(job, outcome);
    this.#pump();
  }

  #adapt(outcome) {
    if (outcome.comeBackS) {
      this.#most = Math.max(1, Math.floor(this.#room) - 1);
      this.#room = Math.max(1, this.#room / 2);
      this.hold(outcome.comeBackS * (1 + Math.random() / 4));
    } else if (outcome.body?.timing.queue_ms > LONG_QUEUE_MS) {
      this.#room = Math.max(1, this.#room - 1);
    } else if (outcome.body) {
      this.#most = Math.min(MOST, this.#most + CAUTION);
      this.#room = Math.min(this.#most, this.#room + 1 / this.#room);
    }
  }

  #again(job, outcome) {
    if (outcome.needsKey) return true;
    if (!outcome.comeBackS) return false;
    job.tries += 1;
    if (outcome.unreachable) job.unreachable += 1;
    return job.tries < MOST_TRIES && job.unreachable < MOST_UNREACHABLE;
  }
}
