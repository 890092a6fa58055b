package sandbox
import ("testing";"os";"context";"time";"fmt"
"rapport/profilestore"
"rapport/server/catalog";"rapport/server/decide";"math/rand/v2")
type prof struct{ v []profilestore.Value}
func (p prof) Get(i int) profilestore.Value { return p.v[i]}
func best(k int, f func()) time.Duration { b:=time.Hour; f(); for range k { t0:=time.Now(); f(); b=min(b,time.Since(t0))}; return b}
func TestZZ(t *testing.T){
 for _,f:=range []string{"/work/main/plugins/dist/pvcl.wasm","/tmp/upsell.wasm"} { for _,n:=range []int{1,100,1000,10000}{
 ctx:=context.Background()
 r,_:=New(ctx,Options{}); b,_:=os.ReadFile(f); t0:=time.Now(); m,err:=r.Compile(ctx,b); if err!=nil{panic(err)}
 ct:=time.Since(t0)
 sch,_:=profilestore.NewSchema([]profilestore.Source{{ID:"bi"}},[]profilestore.Field{{Name:"value.arpu",Type:"number",Batch:"bi"},{Name:"tag.heavy_traffic",Type:"flag",Batch:"bi"},{Name:"general.segment",Type:"text",Batch:"bi"},{Name:"general.joined",Type:"time",Batch:"bi"}})
 c:=&catalog.Compiled{Schema:sch}; sc:=&catalog.Scenario{ID:"x"}
 c.Channels=[]catalog.Channel{{ID:"ivr",Attributes:map[string]profilestore.Value{"cost":profilestore.Number(0.02)}}}
 for i:=range n { c.Offers=append(c.Offers,catalog.Offer{ID:"o",Attributes:map[string]profilestore.Value{"price":profilestore.Number(float64(i)),"data":profilestore.Flag(i%2==0)}}); sc.Candidates=append(sc.Candidates,catalog.Candidate{Offer:i}) }
 s,err:=m.Bind(ctx,c,sc,PoolOptions{Size:2}); if err!=nil{panic(err)}
 q:=&decide.Ranking{Now:1e15,Seed:7,Profile:prof{[]profilestore.Value{profilestore.Number(30),profilestore.Flag(true),profilestore.Text("business"),profilestore.Time(1)}}}
 for i:=range n { q.Candidates=append(q.Candidates,int32(i)); q.Propensity=append(q.Propensity,rand.Float64());q.Value=append(q.Value,10); q.Weight=append(q.Weight,1); q.Lever=append(q.Lever,1)}
 q.Score=make([]float64,n); q.Reason=make([]uint32,n); q.Veto=make([]bool,n)
 in:=<-s.free
 s.call(in,q)
 l,head:=in.head.Finish(n,len(s.columns),q.Now,q.Seed)
 fr,g,_:=s.frame(in,l)
 nat:=best(3000,func(){ for i:=range q.Score { q.Score[i]=q.Propensity[i]*q.Value[i]*q.Weight[i]*q.Lever[i]}})
 fmt.Println(f[len(f)-12:],n,"compile",ct,"native",nat,"call",best(3000,func(){s.call(in,q)}),"guest",best(3000,func(){in.stack[0]=uint64(l.Size); in.rank.CallWithStack(in.ctx,in.stack[:])}),"check",best(3000,func(){s.overwritten(in,&fr,head,g,q)}),"fill",best(3000,func(){s.fillHead(in.head,q)}),"restore",best(300,func(){s.image.restore(in.memory)}),"start",best(10,func(){x,_:=s.start(false); x.close()}), "image",len(s.image.bytes),"static",len(s.static))
 s.image.restore(in.memory)
 s.free<-in
 r.Close(ctx)
 }}
}
