# What a program does with redis-rb: redis_rb.rb PORT BEHIND.
require "redis"

PORT, BEHIND = ARGV.map(&:to_i)
$stdout.sync = true

def say(what, value)
  puts "#{what}: #{value.inspect}".gsub(":#{PORT}", ":PORT")
end

def attempt(what)
  say(what, yield)
rescue StandardError => error
  say(what, "#{error.class}: #{error.message}")
end

def eventually(what)
  deadline = Time.now + 20
  until yield
    raise "waited in vain for #{what}" if Time.now > deadline
    sleep 0.002
  end
  say("eventually", what)
end

def connect(port = PORT, **options)
  Redis.new(port: port, timeout: 20, **options)
end

NEAR = connect
SERVER = connect(BEHIND)

def blocked?
  SERVER.info("clients")["blocked_clients"] == "1"
end

def options
  named = connect(db: 3, id: "mine")
  named.set("where", "three")
  say("name and database", [named.client(:getname), named.get("where"), NEAR.get("where")])
  say("listed", NEAR.client(:list).map { |line| line["name"] }.count("mine"))
  SERVER.call("ACL", "SETUSER", "app", "on", ">secret", "~app:*", "+@all")
  app = connect(username: "app", password: "secret")
  say("allowed", [app.call("ACL", "WHOAMI"), app.set("app:1", "a"), app.get("app:1"), app.get("app:1")])
  attempt("forbidden") { app.get("s") }
  attempt("wrong password") { connect(username: "app", password: "wrong").ping }
  attempt("no such database") { connect(db: 99).ping }
  by_url = Redis.new(url: "redis://app:secret@localhost:#{PORT}/2")
  say("by url", [by_url.set("app:2", "b"), by_url.get("app:2")])
  attempt("time out") { connect(read_timeout: 0.1, reconnect_attempts: 0).call("BLPOP", "nothing", 5) }
end

def values
  say("set and get", [NEAR.set("s", "grün"), NEAR.get("s"), NEAR.get("s"), NEAR.get("none")])
  bytes = (0..255).to_a.pack("C*")
  say("binary", [NEAR.set(bytes, bytes), NEAR.get(bytes).b == bytes, NEAR.get(bytes).b == bytes])
  big = bytes * 40_000
  say("10 MB", [NEAR.set("big", big), NEAR.get("big").b == big, NEAR.get("big").b == big, NEAR.strlen("big")])
  NEAR.mapped_hmset("h", { "a" => 1, "b" => "2" })
  say("hash", [NEAR.hgetall("h"), NEAR.hmget("h", "a", "c"), NEAR.hgetall("none")])
  NEAR.zadd("z", [[1.5, "x"], [2, "y"], ["+inf", "w"]])
  say("scores", [NEAR.zrange("z", 0, -1, with_scores: true), NEAR.zscore("z", "x"), NEAR.zmscore("z", "x", "no")])
  NEAR.sadd("set", [1, 2])
  say("set", [NEAR.smembers("set").sort, NEAR.sismember("set", 1), NEAR.smismember("set", 1, 9)])
  say("many", [NEAR.mset("m1", 1, "m2", 2), NEAR.mapped_mget("m1", "none"), NEAR.mget("m1", "m2")])
  say("expiry", [NEAR.set("e", 1, nx: true, ex: 100), NEAR.ttl("e"), NEAR.set("e", 1, nx: true), NEAR.type("e")])
  attempt("wrong type") { NEAR.get("h") }
  attempt("unknown") { NEAR.call("NOSUCH", "a") }
  attempt("arity") { NEAR.call("GET") }
  attempt("not a number") { NEAR.incr("s") }
end

def pipelines
  replies = NEAR.pipelined { |pipe| 500.times { |number| pipe.set("p:#{number % 10}", number); pipe.get("p:#{number % 10}") } }
  say("pipeline", replies)
  attempt("error inside") { NEAR.pipelined { |pipe| pipe.set("s", "v"); pipe.incr("s"); pipe.get("s") } }
  NEAR.set("t", 1)
  say("transaction", NEAR.multi { |multi| multi.incr("t"); multi.get("t") })
  { "foreign" => SERVER, "own" => connect }.each do |name, writer|
    NEAR.watch("t") do
      say("watched", NEAR.get("t"))
      writer.set("t", 10)
      say("conflict, #{name} write", NEAR.multi { |multi| multi.set("t", 3) })
    end
  end
  NEAR.watch("t") { NEAR.unwatch }
  SERVER.set("t", 11)
  say("unwatched", NEAR.multi { |multi| multi.incr("t") })
  attempt("refused while queueing") { NEAR.multi { |multi| multi.call(["NOSUCH"]) } }
end

def channels
  got = []
  listener = Thread.new do
    connect.subscribe("news", "more") do |on|
      on.subscribe { |channel, count| got << [:subscribe, channel, count] }
      on.message { |channel, text| got << [channel, text] }
      on.unsubscribe { |channel, count| got << [:unsubscribe, channel, count] }
    end
  end
  eventually("subscriptions") { SERVER.pubsub(:numsub, "news", "more").flatten == ["news", 1, "more", 1] }
  100.times { |number| NEAR.publish("news", number) }
  eventually("messages") { got.size == 102 }
  say("in order", got)
  listener.kill.join
  patterns = []
  watcher = Thread.new do
    connect.psubscribe("new*") { |on| on.pmessage { |pattern, channel, text| patterns << [pattern, channel, text] } }
  end
  eventually("a pattern") { SERVER.pubsub(:numpat) == 1 }
  NEAR.publish("news", "one")
  eventually("a message") { patterns.size == 1 }
  say("by pattern", patterns)
  watcher.kill.join
  client = connect
  attempt("with a time out") { client.subscribe_with_timeout(0.2, "quiet") { |on| on.message { raise "not quiet" } } }
  say("usable again", client.ping)
end

def blocking
  waiter = Thread.new { connect.blpop("q1", "q2", timeout: 15) }
  eventually("a blocked client") { blocked? }
  NEAR.rpush("q2", "job")
  say("popped", [waiter.value, NEAR.blpop("q1", timeout: 0.05), NEAR.brpop("q1", timeout: 0.05)])
  NEAR.rpush("q1", %w[a b])
  say("there already", [NEAR.blmove("q1", "q2", "LEFT", "RIGHT", timeout: 1), NEAR.brpop("q1", timeout: 1)])
  NEAR.zadd("bz", 1, "m")
  say("sorted", [NEAR.bzpopmin("bz", timeout: 1), NEAR.bzpopmin("bz", timeout: 0.05)])
end

def streams
  NEAR.xgroup(:create, "x", "workers", "0", mkstream: true)
  attempt("group exists") { NEAR.xgroup(:create, "x", "workers", "0") }
  (1..5).each { |number| NEAR.xadd("x", { n: number }, id: "#{number}-1") }
  say("read by group", NEAR.xreadgroup("workers", "one", "x", ">", count: 3))
  say("the rest", NEAR.xreadgroup("workers", "two", "x", ">", block: 50))
  say("nothing more", NEAR.xreadgroup("workers", "two", "x", ">", block: 50))
  say("acknowledged", [NEAR.xack("x", "workers", "1-1", "2-1"), NEAR.xpending("x", "workers")])
  say("claimed", NEAR.xautoclaim("x", "workers", "three", 0, "0-0", count: 2))
  waiter = Thread.new { connect.xread("x", "$", block: 15_000) }
  eventually("a blocked reader") { blocked? }
  NEAR.xadd("x", { n: 6 }, id: "6-1")
  say("awaited", waiter.value)
end

def scripts
  double = "local v = redis.call('GET', KEYS[1]) redis.call('SET', KEYS[1], v * 2) return v * 2"
  sha = NEAR.script(:load, double)
  NEAR.set("script", 5)
  say("script", [NEAR.get("script"), NEAR.evalsha(sha, ["script"]), NEAR.get("script")])
  NEAR.script(:flush)
  attempt("unknown script") { NEAR.evalsha(sha, ["script"]) }
  say("loaded again", [NEAR.eval(double, ["script"]), NEAR.evalsha(sha, ["script"]), NEAR.get("script")])
  say("nested", NEAR.eval("return {1, 'two', false, {3, {4, {5}}}}"))
end

def scans
  NEAR.mapped_mset((0...5000).to_h { |number| ["scan:#{number}", number] })
  say("found", NEAR.scan_each(match: "scan:*", count: 50).to_a.uniq.size)
end

def threads
  NEAR.set("shared", "everyone")
  workers = 50.times.map do |name|
    Thread.new do
      client = connect
      20.times.sum do |number|
        client.set("thread:#{name}", "#{name}-#{number}")
        NEAR.incr("counter")
        (client.get("thread:#{name}") == "#{name}-#{number}" ? 0 : 1) + (NEAR.get("shared") == "everyone" ? 0 : 1)
      end
    end
  end
  say("threads", [workers.sum(&:value), NEAR.get("counter")])
end

def restarts
  puts "@restart"
  $stdin.gets
  eventually("reconnected") { NEAR.set("again", "1") rescue false }
  say("after a restart", [NEAR.get("again"), NEAR.get("again")])
end

puts "version #{Redis::VERSION}"
%i[options values pipelines channels blocking streams scripts scans threads restarts].each do |scenario|
  say("---", scenario)
  send(scenario)
end
puts "done"
